"""Overlapping windows over a text that is longer than the model, around the tokens that are predicted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Window:
    """Tokens `begin` to `end` of a text, and the indices of the `masks` that are predicted in it."""

    begin: int
    end: int
    masks: np.ndarray


def mask_windows(tokens: int, positions: np.ndarray, size: int) -> list[Window]:
    """Cover masks at sorted token `positions` of a text of `tokens` tokens with windows of at most `size` tokens.

    A mask belongs to the window whose centre is nearest, where the shorter side of its context is longest. Windows
    start every `size` / 2 tokens, and the last one ends with the text; windows without masks are left out.
    """
    last = max(0, tokens - size)
    begins = np.append(np.arange(0, last, max(1, size // 2)), last)
    # The nearest of two neighbouring windows changes half way between their centres.
    nearest = np.searchsorted((begins[:-1] + begins[1:] + size - 1) / 2, positions)
    used, firsts = np.unique(nearest, return_index=True)
    return [
        Window(begin=int(begins[at]), end=int(min(tokens, begins[at] + size)), masks=masks)
        for at, masks in zip(used, np.split(np.arange(len(positions)), firsts[1:]), strict=True)
    ]
