"""Shards by bytes and by expected work: small plans still give every replica several of them."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from pipeline.runtime.plan.shard_sizes import ShardSizing, expected_seconds
from pipeline.runtime.plan.sharding import merge_neighbours, split_into_shards
from pipeline.sources import Piece


def piece(key: str = "k", **fields: int | None) -> Piece:
    return Piece(**{"key": key, "version": "v", "size": 1, "units": 1, **fields})


def shards_of(pieces: Iterable[Piece], sizing: ShardSizing) -> list[int]:
    """Return the number of units in each shard."""
    shards = split_into_shards(pieces, lambda piece: [piece], sizing)
    return [sum(piece.units or piece.about or 1 for piece in shard) for shard in shards]


def test_shards_are_sized_by_input_bytes_or_array_bytes() -> None:
    assert shards_of([piece(size=16 << 20)] * 5, ShardSizing(unit_bytes=1)) == [2, 2, 1]
    assert shards_of([piece()] * 10, ShardSizing(unit_bytes=8 << 20)) == [4, 4, 2]
    a_range = piece(size=1 << 30, begin=0, end=8 << 20)
    assert shards_of([a_range] * 5, ShardSizing(unit_bytes=1)) == [4, 1], "a range counts as its bytes"


def test_a_shard_is_about_half_a_minute_of_work() -> None:
    assert shards_of([piece()] * 100, ShardSizing(unit_bytes=1, unit_seconds=2.0)) == [15] * 6 + [10]
    assert shards_of([piece()] * 9, ShardSizing(unit_bytes=1, unit_seconds=40.0)) == [1] * 9


@pytest.mark.parametrize("replicas", [1, 2, 5])
def test_a_small_plan_gives_each_replica_at_least_four_shards(replicas: int) -> None:
    sizing = ShardSizing(unit_bytes=1, unit_seconds=0.5, replicas=replicas)
    sizes = shards_of([piece()] * 100, sizing)
    assert len(sizes) >= 4 * replicas
    assert max(sizes) <= -(-100 // (4 * replicas))


def test_little_work_is_not_cut_small() -> None:
    assert shards_of([piece()] * 30, ShardSizing(unit_bytes=1, unit_seconds=0.001)) == [30], "fewer than 32 units"
    assert shards_of([piece()] * 8, ShardSizing(unit_bytes=1, unit_seconds=0.4)) == [2] * 4, "a second of work"


def test_rows_of_a_table_are_cut_for_two_replicas() -> None:
    sizing = ShardSizing(unit_bytes=1, unit_seconds=0.005, replicas=2)
    rows = range(0, 2000, sizing.piece_units)
    pieces = [piece(begin=row, end=min(2000, row + sizing.piece_units), units=sizing.piece_units) for row in rows]
    assert len(shards_of(pieces, sizing)) >= 8


def test_frames_in_tiles_count_as_several_passes() -> None:
    sizing = ShardSizing(unit_bytes=1, unit_seconds=10.0, passes=lambda size: (size or 0) / 100)
    assert shards_of([piece(weight=300)] * 8, sizing) == [1] * 8
    assert shards_of([piece(weight=100)] * 60, sizing) == [3] * 20


def test_the_users_shard_size_is_the_greatest_number_of_units() -> None:
    assert shards_of([piece()] * 10, ShardSizing(unit_bytes=1 << 40, unit_seconds=1e6, shard_size=4)) == [4, 4, 2]
    assert shards_of([piece(units=3)] * 3, ShardSizing(unit_bytes=1, shard_size=4)) == [3, 3, 3]


def test_unknown_numbers_of_units_are_guessed() -> None:
    pieces = [piece("a.txt", units=None, about=4096) for _ in range(5)]
    pieces += [piece(f"{number}.txt", units=None) for number in range(300)]
    assert shards_of(pieces, ShardSizing(unit_bytes=1)) == [4096] * 5 + [300]


def test_large_plans_are_cut_without_holding_all_pieces() -> None:
    taken = 0

    def pieces() -> Iterable[Piece]:
        nonlocal taken
        for _ in range(200_000):
            taken += 1
            yield piece()

    shards = split_into_shards(pieces(), lambda piece: [piece], ShardSizing(unit_bytes=1))
    assert len(next(shards)) == 4096
    assert taken < 20_000


def test_parts_of_a_file_that_follow_each_other_are_read_as_one() -> None:
    rows = [piece(begin=begin, end=begin + 2, units=2, weight=7) for begin in (0, 2, 4)]
    assert merge_neighbours(rows) == [piece(begin=0, end=6, units=6, weight=21)]
    lines = [piece(begin=begin, end=begin + 9, units=None, about=3) for begin in (9, 18)]
    pairs = [piece(begin=begin, end=begin + 4, units=None, about=4, first=begin) for begin in (0, 4)]
    assert merge_neighbours(pairs) == [piece(begin=0, end=8, units=None, about=8, first=0)]
    assert merge_neighbours(lines) == [piece(begin=9, end=27, units=None, about=6)]


@pytest.mark.parametrize(
    "other",
    [
        {"begin": 3},
        {"first": 2},
        {"key": "l"},
        {"version": "w"},
        {"offset": 8},
        {"kept": "{}"},
        {"skip": 1},
        {"video_begin": 0},
        {"left_out": [("a", "b")]},
        {"links": [(1, 2)]},
    ],
)
def test_other_pieces_are_not_merged(other: dict[str, object]) -> None:
    first = piece(begin=0, end=2, units=2, first=0 if "first" in other else None)
    second = replace(first, **{"begin": 2, "end": 4, **other})
    assert merge_neighbours([first, second]) == [first, second]


def test_a_whole_file_and_the_last_piece_of_a_video_end_a_run_of_pieces() -> None:
    whole, last = piece(), piece(begin=0, end=None)
    assert merge_neighbours([whole, whole, last]) == [whole, whole, last]


def test_a_published_image_model_takes_seconds_per_image_on_a_cpu() -> None:
    assert 0.5 < expected_seconds(3.6e11, "cpu") < 5
    assert expected_seconds(3.6e11, "cuda") < 0.05
