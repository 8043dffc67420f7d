"""Overlapping windows over a text that is longer than the model, for what is predicted at single places of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Window:
    """Tokens `begin` to `end` of a text, and which of its `places` are predicted in it, as indices."""

    begin: int
    end: int
    places: np.ndarray


def mask_windows(tokens: int, places: np.ndarray, room: int) -> list[Window]:
    """The windows of at most `room` tokens in which the places, sorted indices of tokens, are predicted.

    A place belongs to the window whose middle is nearest, where its context to the shorter side is longest. Windows
    begin every half of `room`, the last ends with the text; those without a place are left out.
    """
    begins = np.append(np.arange(0, max(0, tokens - room), max(1, room // 2)), max(0, tokens - room))
    # Of two windows the one whose middle is nearer changes half way between the two.
    nearest = np.searchsorted((begins[:-1] + begins[1:] + room - 1) / 2, places)
    used, firsts = np.unique(nearest, return_index=True)
    return [
        Window(begin=int(begins[at]), end=int(min(tokens, begins[at] + room)), places=inside)
        for at, inside in zip(used, np.split(np.arange(len(places)), firsts[1:]), strict=True)
    ]
