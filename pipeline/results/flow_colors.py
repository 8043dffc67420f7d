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
    wheel, finite = color_wheel(), np.isfinite(flow).all(axis=-1)
    x, y = np.moveaxis(np.where(finite[..., None], flow, 0).astype(np.float64), -1, 0) / max(scale, 1e-9)
    length, turn = np.hypot(x, y), np.arctan2(-y, -x) / np.pi
    place = (turn + 1) / 2 * (len(wheel) - 1)
    lower = np.floor(place).astype(int)
    part = (place - lower)[..., None]
    hue = ((1 - part) * wheel[lower] + part * wheel[(lower + 1) % len(wheel)]) / 255
    pale, inside = 1 - np.minimum(length, 1)[..., None] * (1 - hue), (length <= 1)[..., None]
    colors = np.where(inside, pale, hue * _BEYOND)
    return np.where(finite[..., None], np.floor(255 * colors), 0).astype(np.uint8)
