"""How a plan cuts a video into pieces, from its length, frame rate and size alone."""

from __future__ import annotations

import pytest

from pipeline.sources.video.pair_reader import ConsecutivePairs, PairsAtRate


@pytest.mark.parametrize(
    ("size", "rate", "pairs"),
    [
        ((320, 240), 25, 36),  # 16 MB
        ((1280, 720), 25, 7),  # a quarter of a second, 39 MB
        ((1920, 1080), 25, 5),  # 62 MB: the maximum, less than a quarter of a second
        ((3840, 2160), 60, 1),
        ((7680, 4320), 60, 1),  # one pair, however large
    ],
)
def test_pieces_of_consecutive_pairs_hold_16_to_64_mb_and_at_least_one_pair(
    size: tuple[int, int], rate: float, pairs: int
) -> None:
    ranges = list(ConsecutivePairs().piece_ranges(60, rate, ConsecutivePairs().unit_bytes(*size), None))
    assert ranges[0].about == pairs
    assert [each.begin for each in ranges[1:]] == [each.end for each in ranges[:-1]]
    assert ranges[-1].end is None
    assert sum(each.about for each in ranges) == pytest.approx(60 * rate, abs=1)


def test_pieces_of_pairs_at_a_rate_hold_16_mb_and_at_least_one_pair() -> None:
    pairs = PairsAtRate(fps=1)
    assert [each.about for each in pairs.piece_ranges(10, 25, 8 << 20, None)] == [2, 2, 2, 2, 1]
    assert [each.about for each in pairs.piece_ranges(10, 25, 100 << 20, None)] == [1] * 9
    assert [each.about for each in pairs.piece_ranges(10, 25, 1, 4)] == [4, 4, 1]
