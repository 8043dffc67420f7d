"""How a plan cuts a film, from its length, rate and size alone."""

from __future__ import annotations

import pytest

from pipeline.sources.video.piece_planning import own_pairs, spaced_pairs


@pytest.mark.parametrize(
    ("size", "rate", "pairs"),
    [
        ((320, 240), 25, 36),  # 16 MB
        ((1280, 720), 25, 7),  # a quarter of a second, 39 MB
        ((1920, 1080), 25, 5),  # 62 MB: the most, less than a quarter of a second
        ((3840, 2160), 60, 1),
        ((7680, 4320), 60, 1),  # one, whatever it takes
    ],
)
def test_parts_of_own_pairs_hold_16_to_64_mb_and_at_least_one(size: tuple[int, int], rate: float, pairs: int) -> None:
    parts = list(own_pairs(60, rate, 2 * 3 * size[0] * size[1], None))
    assert parts[0].about == pairs
    assert [part.begin for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert parts[-1].end is None
    assert sum(part.about for part in parts) == pytest.approx(60 * rate, abs=1)


def test_parts_of_spaced_pairs_hold_16_mb_and_at_least_one() -> None:
    assert [part.about for part in spaced_pairs(10, 1, 8 << 20, None)] == [2, 2, 2, 2, 1]
    assert [part.about for part in spaced_pairs(10, 1, 100 << 20, None)] == [1] * 9
    assert [part.about for part in spaced_pairs(10, 1, 1, 4)] == [4, 4, 1]
