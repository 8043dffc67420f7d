"""Tiles of a frame: they cover every pixel, begin where the authors' tiles begin, and occur once."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.heads.flow_tiles import (
    blend_weights,
    check_points,
    points_by_tile,
    tile_corners,
    tile_offsets,
    tile_overlap,
    total_blend_weights,
)

SIZES = [(16, 24), (17, 24), (24, 36), (25, 37), (50, 70), (5, 7), (9, 61), (40, 3), (1, 1)]
TILE = (16, 24)


@pytest.mark.parametrize(
    ("length", "tile", "offsets"),
    [
        (960, 496, [0, 464]),
        (1920, 496, [0, 476, 952, 1424]),
        (960, 368, [0, 348, 592]),
        (1920, 368, [0, 348, 696, 1044, 1392, 1552]),
        (972, 496, [0, 476]),
        (973, 496, [0, 476, 477]),
        (496, 496, [0]),
        (497, 496, [0, 1]),
        (100, 496, [0]),
    ],
)
def test_tiles_of_published_size_begin_where_the_authors_place_them(length: int, tile: int, offsets: list[int]) -> None:
    assert tile_offsets(length, tile) == offsets


@pytest.mark.parametrize("tile", [1, 2, 3, 16, 24, 39, 40, 41, 368])
def test_tiles_overlap_and_end_with_the_frame(tile: int) -> None:
    assert tile_overlap(tile) == (20 if tile >= 40 else tile // 2)
    for length in range(1, 5 * tile, max(1, tile // 11)):
        offsets = tile_offsets(length, tile)
        assert offsets[0] == 0
        assert offsets[-1] == max(0, length - tile)
        assert all(0 < step <= tile - tile_overlap(tile) for step in np.diff(offsets))


def test_blend_weight_is_the_distance_to_the_nearest_edge() -> None:
    assert blend_weights((3, 5)).tolist() == [[1, 1, 1, 1, 1], [1, 2, 2, 2, 1], [1, 1, 1, 1, 1]]
    height, width = TILE
    expected = [[min(x + 1, width - x, y + 1, height - y) for x in range(width)] for y in range(height)]
    assert blend_weights(TILE).tolist() == expected
    assert blend_weights(TILE).dtype == np.float32
    assert blend_weights((1, 1)).tolist() == [[1]]


@pytest.mark.parametrize("size", SIZES)
def test_every_pixel_is_covered(size: tuple[int, int]) -> None:
    filled = max(size[0], TILE[0]), max(size[1], TILE[1])
    expected = np.zeros(filled)
    for top, left in tile_corners(*size, TILE).tolist():
        assert top + TILE[0] <= filled[0]
        assert left + TILE[1] <= filled[1]
        for y in range(TILE[0]):
            for x in range(TILE[1]):
                expected[top + y, left + x] += min(x + 1, TILE[1] - x, y + 1, TILE[0] - y)
    assert expected.min() >= 1
    np.testing.assert_array_equal(total_blend_weights(filled, TILE), expected)


def test_tiles_are_numbered_row_by_row() -> None:
    assert tile_corners(20, 50, TILE).tolist() == [[0, 0], [0, 12], [0, 24], [0, 26], [4, 0], [4, 12], [4, 24], [4, 26]]


@pytest.mark.parametrize("size", SIZES)
def test_each_tile_has_exactly_the_points_that_it_covers(size: tuple[int, int]) -> None:
    colors = np.random.default_rng(0)
    points = [(int(colors.integers(size[1])), int(colors.integers(size[0]))) for _ in range(9)]
    points += [(0, 0), (size[1] - 1, size[0] - 1), points[0]]
    covered = points_by_tile(points, size, TILE)
    offsets = tile_corners(*size, TILE).tolist()
    found = {}
    for tile, row in zip(covered.tiles.tolist(), range(len(covered.tiles)), strict=True):
        assert len(set(covered.points[row].tolist())) == covered.points.shape[1]
        for point, pixel, weight in zip(covered.points[row], covered.pixels[row], covered.weights[row], strict=True):
            assert 0 <= pixel < TILE[0] * TILE[1]
            if weight:
                found[tile, int(point)] = (int(pixel), float(weight))
    expected = {}
    for number, (x, y) in enumerate(points):
        of_point = {}
        for tile, (top, left) in enumerate(offsets):
            row_in_tile, column_in_tile = y - top, x - left
            if 0 <= row_in_tile < TILE[0] and 0 <= column_in_tile < TILE[1]:
                weight = min(column_in_tile + 1, TILE[1] - column_in_tile, row_in_tile + 1, TILE[0] - row_in_tile)
                of_point[tile, number] = (row_in_tile * TILE[1] + column_in_tile, weight)
        total = sum(weight for _, weight in of_point.values())
        expected |= {key: (pixel, pytest.approx(weight / total)) for key, (pixel, weight) in of_point.items()}
    assert found == expected


def test_tiles_without_a_point_are_left_out() -> None:
    covered = points_by_tile([(0, 0), (69, 49)], (50, 70), TILE)
    assert covered.tiles.tolist() == [0, len(tile_corners(50, 70, TILE)) - 1]
    assert covered.points.tolist() == [[0], [1]]
    assert covered.weights.tolist() == [[1], [1]]


@pytest.mark.parametrize("point", [(70, 0), (0, 50), (-1, 0), (0, -1), (50, 60)])
def test_a_point_outside_the_frame_is_named(point: tuple[int, int]) -> None:
    check_points([(0, 0), (69, 49)], (50, 70))
    check_points([], (50, 70))
    message = rf"point {point[0]},{point[1]} lies outside a frame of 70 by 50 pixels: x must lie in 0…69, y in 0…49"
    with pytest.raises(ValueError, match=message):
        check_points([(0, 0), point, (99, 99)], (50, 70))
