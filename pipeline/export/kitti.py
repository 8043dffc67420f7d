"""Flow as PNG of the KITTI benchmark: 16 bits per channel, motion in steps of 1/64 pixel from -512 to 512."""

from fractions import Fraction
from typing import Any

import av
import numpy as np

from pipeline.export.exported import Exported
from pipeline.export.unit_files import unit_file_format
from pipeline.results.unit_arrays import flow_array

_STEPS = 64  # per pixel
_ZERO = 2**15
_BEYOND = "pixels move more than 512 pixels, which KITTI's format cannot hold: marked as invalid"


def encode_kitti(flow: np.ndarray) -> tuple[bytes, int]:
    """Return the file of motion [H, W, 2] in pixels, x then y, and its number of invalid pixels.

    Channels are x * 64 + 2¹⁵, y * 64 + 2¹⁵, and 1. A pixel with a value that does not fit 16 bits is invalid: zeros.
    """
    with np.errstate(invalid="ignore"):
        values = np.rint(flow.astype(np.float64) * _STEPS) + _ZERO
        valid = ((values >= 0) & (values < 2**16)).all(axis=-1)
    channels = np.zeros((*flow.shape[:2], 3), np.uint16)
    channels[valid, :2], channels[valid, 2] = values[valid], 1
    return _encode_png(channels), int((~valid).sum())


def _encode_png(channels: np.ndarray) -> bytes:
    """Encode uint16 [H, W, 3] with FFmpeg: Pillow has no RGB of 16 bits."""
    frame = av.VideoFrame.from_ndarray(channels, format="rgb48be")
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, "rgb48be"
    codec.time_base = Fraction(1)
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def _encode(row: dict[str, Any], exported: Exported) -> bytes:
    data, invalid = encode_kitti(flow_array(row))
    if invalid:
        exported.notes[_BEYOND] += invalid
    return data


KITTI = unit_file_format("kitti", ".png", ["flow", "height", "width"], _encode)
