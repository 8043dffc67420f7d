"""Frames of any size, covered by overlapping tiles of the one size that a model reads; places are (row, column)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_OVERLAP = 20  # pixels at least, as the authors overlap tiles of 368 × 496


def overlap(tile: int) -> int:
    """How many pixels neighbouring tiles share at least, of `tile` pixels along one axis.

    Less than 20 where a tile has fewer than 40: tiles must advance, and by no less than they overlap.
    """
    return min(_OVERLAP, tile // 2)


def offsets(length: int, tile: int) -> list[int]:
    """Where tiles begin along an axis of `length` pixels, each once; a shorter axis has one tile that overhangs it."""
    last = max(0, length - tile)
    return [*range(0, last, tile - overlap(tile)), last]


def corners(height: int, width: int, tile: tuple[int, int]) -> np.ndarray:
    """The first place int64 [K, 2] of each tile of a frame, row by row."""
    rows, columns = (offsets(length, side) for length, side in zip((height, width), tile, strict=True))
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)


def weights(tile: tuple[int, int]) -> np.ndarray:
    """How much each pixel counts where tiles overlap, float32 [h, w]: 1 at the tile's edges, more the further inside.

    The distance in pixels to beyond the nearest edge, as the authors blend.
    """
    down, across = (np.minimum(np.arange(side) + 1, side - np.arange(side)) for side in tile)
    return np.minimum(down[:, None], across[None, :]).astype(np.float32)


def total_weights(size: tuple[int, int], tile: tuple[int, int]) -> np.ndarray:
    """The sum of the weights of all tiles, float32 [H, W], over a frame that is no smaller than a tile."""
    one, total = weights(tile), np.zeros(size, np.float32)
    for top, left in corners(*size, tile):
        total[top : top + tile[0], left : left + tile[1]] += one
    return total


@dataclass(frozen=True, kw_only=True)
class Covered:
    """The points in each tile that covers any, padded to the same number of points a tile by ones of no weight.

    tiles: int64 [K], numbers of the tiles. points: int64 [K, P], numbers of the points. places: int64 [K, P], where
    they lie in their tile, row · width + column. weights: float32 [K, P], of all tiles of a point together 1.
    """

    tiles: np.ndarray
    points: np.ndarray
    places: np.ndarray
    weights: np.ndarray


def cover(points: Sequence[tuple[int, int]], size: tuple[int, int], tile: tuple[int, int]) -> Covered:
    """Which tiles of a frame of `size`, height and width, cover the points, (x, y) in pixels, none outside of it."""
    places = np.array(points, np.int64)[:, ::-1] - corners(*size, tile)[:, None]  # [tiles, points, 2], in each tile
    inside = ((places >= 0) & (places < tile)).all(axis=-1)
    tiles = np.flatnonzero(inside.any(axis=1))
    inside, places = inside[tiles], places[tiles]
    # The points of each tile first, in their order; as many of the others as the fullest tile needs are its padding.
    chosen = np.argsort(~inside, axis=1, kind="stable")[:, : inside.sum(axis=1).max()]
    real = np.take_along_axis(inside, chosen, axis=1)
    rows, columns = np.where(real, np.moveaxis(np.take_along_axis(places, chosen[..., None], axis=1), -1, 0), 0)
    weight = np.where(real, weights(tile)[rows, columns], 0).astype(np.float32)
    total = np.zeros(len(points), np.float32)
    np.add.at(total, chosen, weight)
    return Covered(tiles=tiles, points=chosen, places=rows * tile[1] + columns, weights=weight / total[chosen])


def check_points(points: Sequence[tuple[int, int]], size: tuple[int, int]) -> None:
    """ValueError where one of the points, (x, y) in pixels, lies outside a frame of `size`, height and width."""
    height, width = size
    places = np.array(points, np.int64).reshape(-1, 2)
    outside = ((places < 0) | (places >= (width, height))).any(axis=1)
    if outside.any():
        x, y = places[outside.argmax()]
        raise ValueError(
            f"point {x},{y} lies outside a frame of {width} by {height} pixels: "
            f"x must lie in 0…{width - 1}, y in 0…{height - 1}"
        )
