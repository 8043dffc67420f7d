"""Which pairs and clips a film has, and how a plan cuts it: from its length alone, without a frame of it.

The last part has no end: a film may be longer than it declares.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.media import ClipSpec
from pipeline.sources.source import SourceOptions

PIECE_BYTES = 16 << 20
"""Of the decoded pairs of a piece."""

PIECE_CLIPS = 32
_MOST_BYTES = 64 << 20  # whatever the time that a piece takes
_LEAST_SECONDS = 0.25  # of a piece of pairs: each piece decodes up to its first frame from the key frame before it
_FRAME_BYTES = 8  # no film has smaller frames on average, so that a wrong length cannot make a plan of a billion pieces
_FRAME_SECONDS = 1.0  # nor are such small ones shown for longer: else the last part of the film is a long one
_APART = 0.002  # seconds, below which milliseconds may not tell units apart
_NEARLY = 1e-6


class Part(NamedTuple):
    """What a piece takes of a film. begin, end: microseconds, pairs or clips. first: number of its first unit.

    about: how many units it should hold.
    """

    begin: int
    end: int | None
    first: int | None
    about: int


def microseconds(seconds: float) -> int:
    """The same time, as pieces give it."""
    return round(seconds * 1_000_000)


def likely(seconds: float, rate: float, size: int) -> float:
    """A declared length, at most what a file of `size` bytes can hold at `rate` frames a second."""
    return min(seconds, size / _FRAME_BYTES * min(1 / rate, _FRAME_SECONDS))


def unit_id(key: str, seconds: float, apart: float) -> str:
    """The id of what starts at a time, so many seconds from the nearest unit beside it."""
    return f"{key}#{seconds:.{6 if apart < _APART else 3}f}"


def own_pairs(seconds: float, rate: float, pair_bytes: int, most: int | None) -> Iterator[Part]:
    """Parts, in microseconds, of a film's own consecutive frames."""
    each = max(PIECE_BYTES // pair_bytes, min(math.ceil(_LEAST_SECONDS * rate), _MOST_BYTES // pair_bytes), 1)
    each = min(each, most or each)
    step = each / rate
    count = max(1, math.ceil(seconds / step - _NEARLY))
    for number in range(count):
        begin = microseconds(number * step)
        last = number == count - 1
        about = max(1, round((seconds - number * step) * rate) - 1) if last else each
        yield Part(begin, None if last else microseconds((number + 1) * step), None if number else 0, about)


def spaced_pairs(seconds: float, fps: float, pair_bytes: int, most: int | None) -> Iterator[Part]:
    """Parts, in numbers of pairs, of frames `1 / fps` apart."""
    each = max(1, PIECE_BYTES // pair_bytes)
    return _numbered(math.ceil(seconds * fps - _NEARLY) - 1, min(each, most or each))


def clips(seconds: float, clip: ClipSpec, stride: float, most: int | None) -> Iterator[Part]:
    """Parts, in numbers of clips."""
    count = 1 + max(0, math.ceil((seconds - clip.seconds) / stride - _NEARLY))
    return _numbered(count, min(PIECE_CLIPS, most or PIECE_CLIPS))


def _numbered(count: int, each: int) -> Iterator[Part]:
    count = max(1, count)
    for begin in range(0, count, each):
        end = begin + each
        yield Part(begin, None if end >= count else end, begin, min(each, count - begin))


def stride_of(options: SourceOptions, clip: ClipSpec) -> float:
    """Seconds from one clip's start to the next one's."""
    return clip.seconds if options.clip_stride is None else options.clip_stride


def clip_times(clip: ClipSpec, stride: float, begin: int, end: int | None) -> Iterator[tuple[float, int]]:
    """(seconds, number of the clip) of every frame of the clips from `begin` on, in order of time: clips may overlap.
    Without `end` it never ends."""
    due = [(begin * stride, begin, 0)]
    while due:
        time, number, frame = heapq.heappop(due)
        if frame == 0 and (end is None or number + 1 < end):
            heapq.heappush(due, ((number + 1) * stride, number + 1, 0))
        if frame + 1 < clip.frames:
            heapq.heappush(due, (number * stride + (frame + 1) / clip.fps, number, frame + 1))
        yield time, number
