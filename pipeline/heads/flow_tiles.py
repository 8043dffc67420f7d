"""Overlapping tiles that cover frames of any size, and their blending. Positions are (row, column)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


def tile_overlap(side: int) -> int:
    """Return the minimum overlap in pixels of neighbouring tiles along an axis, given their `side` in pixels.

    20, the authors' minimum for tiles of 368 × 496, or half of the tile if that is less: tiles must advance by at least
    as much as they overlap.
    """
    return min(20, side // 2)


def tile_offsets(length: int, side: int) -> list[int]:
    """Return where tiles of `side` pixels begin along an axis of `length` pixels, each once.

    An axis shorter than a tile has one tile, which extends beyond it.
    """
    last = max(0, length - side)
    return [*range(0, last, side - tile_overlap(side)), last]


def tile_corners(height: int, width: int, tile: tuple[int, int]) -> np.ndarray:
    """Return the upper left corner of each tile of a frame, int64 [K, 2], row by row."""
    rows, columns = (tile_offsets(length, side) for length, side in zip((height, width), tile, strict=True))
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)


def blend_weights(tile: tuple[int, int]) -> np.ndarray:
    """Return the weight of each pixel of a tile, float32 [h, w]: 1 at the edges, rising by 1 per pixel inwards.

    min(x + 1, w - x, y + 1, h - y), as in the authors' code.
    """
    vertical, horizontal = (np.minimum(np.arange(side) + 1, side - np.arange(side)) for side in tile)
    return np.minimum(vertical[:, None], horizontal[None, :]).astype(np.float32)


def total_blend_weights(size: tuple[int, int], tile: tuple[int, int]) -> np.ndarray:
    """Return the sum of all tiles' weights, float32 [H, W], over a frame that is at least as large as a tile."""
    weights, total = blend_weights(tile), np.zeros(size, np.float32)
    for top, left in tile_corners(*size, tile):
        total[top : top + tile[0], left : left + tile[1]] += weights
    return total


class PointsByTile(NamedTuple):
    """The points inside each of K tiles, padded with points of weight 0 to the same number P per tile.

    Attributes:
        tiles: int64 [K], indices of tiles with at least one point.
        points: int64 [K, P], indices of points.
        pixels: int64 [K, P], flat indices of the points in their tile, row · width + column.
        weights: float32 [K, P]; the weights of one point sum to 1.
    """

    tiles: np.ndarray
    points: np.ndarray
    pixels: np.ndarray
    weights: np.ndarray


def points_by_tile(points: Sequence[tuple[int, int]], size: tuple[int, int], tile: tuple[int, int]) -> PointsByTile:
    """Find the tiles that cover each point (x, y) of a frame of `size` (height, width). All points lie in the frame."""
    positions = np.array(points, np.int64)[:, ::-1] - tile_corners(*size, tile)[:, None]  # [tiles, points, 2], in tile
    inside = ((positions >= 0) & (positions < tile)).all(axis=-1)
    tiles = np.flatnonzero(inside.any(axis=1))
    inside, positions = inside[tiles], positions[tiles]
    # The points inside a tile come first, in their order; other points are the padding up to the fullest tile.
    chosen = np.argsort(~inside, axis=1, kind="stable")[:, : inside.sum(axis=1).max()]
    real = np.take_along_axis(inside, chosen, axis=1)
    rows, columns = np.where(real, np.moveaxis(np.take_along_axis(positions, chosen[..., None], axis=1), -1, 0), 0)
    weights = np.where(real, blend_weights(tile)[rows, columns], 0).astype(np.float32)
    total = np.zeros(len(points), np.float32)
    np.add.at(total, chosen, weights)
    return PointsByTile(tiles=tiles, points=chosen, pixels=rows * tile[1] + columns, weights=weights / total[chosen])


def check_points(points: Sequence[tuple[int, int]], size: tuple[int, int]) -> None:
    """Raise ValueError if a point (x, y) lies outside a frame of `size` (height, width)."""
    height, width = size
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            bounds = f"x must lie in 0…{width - 1}, y in 0…{height - 1}"
            raise ValueError(f"point {x},{y} lies outside a frame of {width} by {height} pixels: {bounds}")
