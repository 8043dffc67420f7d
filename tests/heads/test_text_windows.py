"""Windows over long texts: every place is predicted once, where it has most context."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.heads.text_windows import mask_windows


@pytest.mark.parametrize("room", [1, 2, 3, 7, 38])
@pytest.mark.parametrize("tokens", [1, 2, 37, 38, 39, 40, 57, 76, 77, 500])
def test_each_place_lies_where_its_shorter_side_is_longest(tokens: int, room: int) -> None:
    last = max(0, tokens - room)
    begins = [*range(0, last, max(1, room // 2)), last]
    found = mask_windows(tokens, np.arange(tokens), room)
    assert np.concatenate([window.places for window in found]).tolist() == list(range(tokens))
    for window in found:
        assert window.begin in begins
        assert window.end == min(tokens, window.begin + room)
        for place in window.places:
            context = [min(place - begin, begin + room - 1 - place) for begin in begins]
            assert min(place - window.begin, window.begin + room - 1 - place) == max(context)


def test_windows_without_a_place_are_left_out() -> None:
    found = mask_windows(1000, np.array([3, 5, 700]), 100)
    assert [window.places.tolist() for window in found] == [[0, 1], [2]]
    assert [(window.begin, window.end) for window in found] == [(0, 100), (650, 750)]
