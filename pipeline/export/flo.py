"""Flow as Middlebury .flo files: float32 of every pixel, which loses nothing."""

from typing import Any

import numpy as np

from pipeline.export.exported import Exported
from pipeline.export.unit_files import unit_file_format
from pipeline.results.unit_arrays import flow_array

_TAG = 202021.25  # the bytes "PIEH", by which readers check the byte order


def encode_flo(flow: np.ndarray) -> bytes:
    """Return the file of motion [H, W, 2] in pixels, x then y: tag, width, height, pixels row by row; little-endian."""
    height, width, _ = flow.shape
    header = np.array([_TAG], "<f4").tobytes() + np.array([width, height], "<i4").tobytes()
    return header + np.ascontiguousarray(flow, "<f4").tobytes()


def _encode(row: dict[str, Any], exported: Exported) -> bytes:  # noqa: ARG001
    return encode_flo(flow_array(row))


FLO = unit_file_format("flo", ".flo", ["flow", "height", "width"], _encode)
