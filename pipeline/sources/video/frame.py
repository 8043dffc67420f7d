"""A decoded video frame with its time, and its conversion to upright RGB: rotation and mirroring are applied here."""

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame

from pipeline.media import BadMedium

DisplayMatrix: TypeAlias = tuple[int, int, int, int]
"""(a, b, c, d): a player shows the stored pixel (x, y) at x' = a·x + c·y, y' = b·x + d·y."""


@dataclass(eq=False)
class TimedFrame:
    """A frame that is shown from `time` on, in seconds, or the error that took its place.

    Attributes:
        time: seconds after the first frame of the video.
        number: index in the video; an estimate if the container does not list its frames.
        decoded: PyAV's frame until `to_rgb` has converted it; None if there is an error.
        matrix: how the video's frames are rotated and mirrored; None if they are stored upright.
        error: why there is no frame.
    """

    time: float
    number: int
    decoded: VideoFrame | None = None
    matrix: DisplayMatrix | None = None
    error: Exception | None = None
    _rgb: np.ndarray | None = field(default=None, init=False, repr=False)

    def to_rgb(self) -> np.ndarray:
        """Convert to upright RGB, uint8 [H, W, 3]. Later calls return the same array. Raise `error` if there is one."""
        if self._rgb is None:
            if self.decoded is None:
                raise self.error or BadMedium("no frame")
            self._rgb, self.decoded = upright_rgb(self.decoded, self.matrix), None
        return self._rgb


def display_matrix(frame: VideoFrame) -> DisplayMatrix | None:
    """Read how a video's frames are rotated and mirrored from one of them; None if they are stored upright.

    Call it once per video: PyAV keeps a frame whose side data was read, megabytes each, until garbage collection.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return None
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32, 5).tolist()
    return a, b, c, d


def upright_rgb(frame: VideoFrame, matrix: DisplayMatrix | None) -> np.ndarray:
    """Convert a decoded frame to RGB, uint8 [H, W, 3], rotated by multiples of 90° and mirrored as `matrix` says."""
    image: np.ndarray = frame.to_ndarray(format="rgb24")
    if matrix is None:
        return image
    a, b, c, d = matrix
    if abs(b) > abs(a):
        image = image.transpose(1, 0, 2)
        a, d = c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
