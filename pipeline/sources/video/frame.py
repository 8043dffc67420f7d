"""A frame of a film: from when on it is shown, and its picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame

from pipeline.media import BadMedium

Matrix: TypeAlias = tuple[int, int, int, int]
"""a, b, c, d: of a stored pixel (x, y) the player shows x' = a·x + c·y and y' = b·x + d·y."""


@dataclass(eq=False)
class Shot:
    """A frame from `time` in seconds on, number `number` of its film; or the error that took its place."""

    time: float
    number: int
    frame: VideoFrame | None = None
    matrix: Matrix | None = None
    error: Exception | None = None

    @cached_property
    def picture(self) -> np.ndarray:
        """uint8 [H, W, 3], RGB, upright. Raises the error."""
        if self.frame is None:
            raise self.error or BadMedium("no frame")
        picture, self.frame = upright(self.frame, self.matrix), None
        return picture


def display_matrix(frame: VideoFrame) -> Matrix | None:
    """How a film's frames are turned and mirrored, from one of them; None where they are upright.

    Not to be asked of every frame: PyAV then keeps it until garbage is collected, megabytes each.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return None
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32, 5).tolist()
    return a, b, c, d


def upright(frame: VideoFrame, matrix: Matrix | None) -> np.ndarray:
    """uint8 [H, W, 3] RGB of a decoded frame, turned and mirrored by quarters as its display matrix says."""
    picture: np.ndarray = frame.to_ndarray(format="rgb24")
    if matrix is None:
        return picture
    a, b, c, d = matrix
    if abs(b) > abs(a):
        picture = picture.transpose(1, 0, 2)
        a, d = c, b
    return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
