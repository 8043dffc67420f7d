"""Flow as colors: the direction is the hue and the length the saturation, as in the Middlebury benchmark.

Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011; the wheel is that of their color
code: motion to the right is red, down yellow, to the left cyan, up blue-violet; no motion is white.
"""

from functools import lru_cache

import numpy as np

_TRANSITIONS = (("red", 15), ("yellow", 6), ("green", 4), ("cyan", 11), ("blue", 13), ("magenta", 6))
_PRIMARIES = {
    "red": (255, 0, 0),
    "yellow": (255, 255, 0),
    "green": (0, 255, 0),
    "cyan": (0, 255, 255),
    "blue": (0, 0, 255),
    "magenta": (255, 0, 255),
}
_STEPS = 2**16  # of a turn
_BEYOND = 0.75  # brightness of motion that is longer than the scale
TYPICAL_PERCENTILE = 99.0


@lru_cache(maxsize=1)
def color_wheel() -> np.ndarray:
    """Return the wheel: colors float64 [55, 3] in [0, 255], which run from each primary color to the next one."""
    names = [name for name, _ in _TRANSITIONS]
    parts = []
    for (name, steps), following in zip(_TRANSITIONS, [*names[1:], names[0]], strict=True):
        start, end = np.array(_PRIMARIES[name], float), np.array(_PRIMARIES[following], float)
        parts.append(start + (end - start) * (np.arange(steps) / steps)[:, None])
    return np.floor(np.concatenate(parts))


def typical_length(flow: np.ndarray) -> float:
    """Return the length in pixels that all but the longest 1 % of the motion [H, W, 2] stays below: a robust scale."""
    lengths = np.hypot(flow[..., 0], flow[..., 1])
    finite = lengths[np.isfinite(lengths)]
    return float(np.percentile(finite, TYPICAL_PERCENTILE)) if finite.size else 0.0


def flow_colors(flow: np.ndarray, scale: float) -> np.ndarray:
    """Return the colors uint8 [H, W, 3] of motion [H, W, 2] in pixels, x then y.

    scale: Length in pixels of the most saturated color; longer motion is darker. Motion that is not finite is black.
    """
    x, y = (np.asarray(flow[..., axis], np.float32) / np.float32(max(scale, 1e-9)) for axis in (0, 1))
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = np.where(finite, x, 0), np.where(finite, y, 0)
    length, turn = np.hypot(x, y), np.arctan2(-y, -x) / np.float32(np.pi)
    colors = _hues()[np.rint((turn + 1) / 2 * _STEPS).astype(np.int32)]
    colors = 1 - np.minimum(length, 1)[..., None] * (1 - colors)
    colors[length > 1] *= np.float32(_BEYOND)
    colors[~finite] = 0
    return (255 * colors).astype(np.uint8)


@lru_cache(maxsize=1)
def _hues() -> np.ndarray:
    """Return the wheel float32 [_STEPS + 1, 3] in [0, 1], interpolated, from a half turn to the next."""
    wheel = color_wheel()
    place = np.linspace(0, len(wheel) - 1, _STEPS + 1)
    lower = np.floor(place).astype(int)
    part = (place - lower)[:, None]
    return (((1 - part) * wheel[lower] + part * wheel[(lower + 1) % len(wheel)]) / 255).astype(np.float32)
