"""Pairs of frames of a film: its own consecutive ones, or those shown at even distances."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from pipeline.media import BadMedium, FramePair
from pipeline.sources.video.frame import Shot
from pipeline.sources.video.frame_lookup import Player
from pipeline.sources.video.piece_planning import microseconds

_BESIDE = 0.002  # seconds before a piece in which a frame is looked for: the id of the first pair tells both apart


class OwnPair(NamedTuple):
    """Where a pair starts, the medium or the error that took it, and how far the nearest frame is, in seconds."""

    seconds: float
    medium: Any
    apart: float


def own_pairs(player: Player, begin: int, end: int | None) -> Iterator[OwnPair]:
    """Each pair whose first frame is shown from microsecond `begin` on and before `end`. A film that ends too early is
    one error more, at the first pair that it lacks."""
    first: Shot | None = None
    before = float("-inf")  # when the frame before `first` is shown
    for shot in player.shots(max(0.0, begin / 1_000_000 - _BESIDE)):
        if first is not None and microseconds(first.time) >= begin:
            apart = min(first.time - before, shot.time - first.time)
            yield OwnPair(first.time, _pair(first, shot, first.number), apart)
        elif first is not None and first.error is not None and microseconds(shot.time) > begin:
            # Damage that began in an earlier piece.
            yield OwnPair(begin / 1_000_000, first.error, shot.time - begin / 1_000_000)
        if end is not None and microseconds(shot.time) >= end:
            return
        first, before = shot, before if first is None else first.time
    if player.cut is not None:
        seconds = max(begin / 1_000_000, first.time if first is not None else 0.0)
        yield OwnPair(seconds, player.cut, seconds - before)


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
    return FramePair(frames=np.stack(frames), frame_index=number, start_seconds=start)
