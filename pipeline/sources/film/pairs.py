"""Pairs of frames of a film: its own consecutive ones, or those shown at even distances."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np

from pipeline.sources.base import BadMedium
from pipeline.sources.film.player import Player
from pipeline.sources.film.shot import Shot
from pipeline.sources.film.timeline import microseconds


def own_pairs(player: Player, begin: int, end: int | None) -> Iterator[tuple[float, Any]]:
    """(seconds, medium or the error that took it) of each pair whose first frame is shown from microsecond `begin` on
    and before `end`. A film that ends too early is one error more, at the first pair that it lacks."""
    first: Shot | None = None
    for shot in player.shots(begin / 1_000_000):
        if first is not None and microseconds(first.time) >= begin:
            yield first.time, _pair(first, shot, first.number)
        elif first is not None and first.error is not None and microseconds(shot.time) > begin:
            yield begin / 1_000_000, first.error  # damage that began in an earlier piece
        if end is not None and microseconds(shot.time) >= end:
            return
        first = shot
    if player.cut is not None:
        yield max(begin / 1_000_000, first.time if first is not None else 0.0), player.cut


def spaced_pairs(player: Player, fps: float, begin: int, end: int | None) -> Iterator[tuple[float, Any]]:
    """The same for pairs `begin`…`end`, pair k of the frames shown at k / fps and (k + 1) / fps."""
    for number in count(begin) if end is None else range(begin, end):
        first, second = player.shown_at(number / fps), player.shown_at((number + 1) / fps)
        if first is None or second is None:
            if player.cut is not None:
                yield number / fps, player.cut
            return
        yield number / fps, _pair(first, second, number, number / fps)


def _pair(first: Shot, second: Shot, number: int, seconds: float | None = None) -> Any:
    """The medium, or the error where a frame cannot be had. The times are the first frame's, unless given."""
    try:
        frames = [first.picture, second.picture]
    except Exception as error:  # noqa: BLE001  conversions raise anything at all: it costs this pair
        return error
    if frames[0].shape != frames[1].shape:
        sizes = [f"{height} by {width}" for height, width, _ in (frame.shape for frame in frames)]
        return BadMedium(f"the film changes its size here, from {' to '.join(sizes)} pixels")
    start = first.time if seconds is None else seconds
    return {"frames": np.stack(frames), "frame_index": number, "start_seconds": start}
