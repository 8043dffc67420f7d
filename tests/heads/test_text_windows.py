"""Windows over long texts: every mask is predicted once, where it has most context."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.heads.text_windows import mask_windows


@pytest.mark.parametrize("size", [1, 2, 3, 7, 38])
@pytest.mark.parametrize("tokens", [1, 2, 37, 38, 39, 40, 57, 76, 77, 500])
def test_each_mask_is_in_the_window_with_the_longest_context_on_its_shorter_side(tokens: int, size: int) -> None:
    last = max(0, tokens - size)
    starts = [*range(0, last, max(1, size // 2)), last]
    found = mask_windows(tokens, np.arange(tokens), size)
    assert np.concatenate([window.masks for window in found]).tolist() == list(range(tokens))
    for window in found:
        assert window.begin in starts
        assert window.end == min(tokens, window.begin + size)
        for position in window.masks:
            context = [min(position - begin, begin + size - 1 - position) for begin in starts]
            assert min(position - window.begin, window.begin + size - 1 - position) == max(context)


def test_windows_without_masks_are_left_out() -> None:
    found = mask_windows(1000, np.array([3, 5, 700]), 100)
    assert [window.masks.tolist() for window in found] == [[0, 1], [2]]
    assert [(window.begin, window.end) for window in found] == [(0, 100), (650, 750)]
