"""Frame pairs of a video: each frame with the next one, or frames at a fixed rate."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from pipeline.media import BadMedium, FramePair
from pipeline.sources.video.frame import TimedFrame
from pipeline.sources.video.frame_lookup import FrameLookup
from pipeline.sources.video.piece_planning import PIECE_BYTES, ROUNDING, PieceRange, VideoUnit, numbered_ranges

_MICRO = 1_000_000
_MIN_PIECE_SECONDS = 0.25  # each piece decodes from the key frame before its first frame
_MAX_PIECE_BYTES = 64 << 20  # limits a piece even if it is shorter than that
_LOOKBACK = 0.002  # seconds before a piece in which a frame changes the spacing, and so the id, of the first pair


@dataclass(frozen=True)
class ConsecutivePairs:
    """Pairs of consecutive frames. Pieces are in microseconds: a pair belongs to the piece in which it starts."""

    def unit_bytes(self, height: int, width: int) -> int:
        """Bytes of a decoded pair."""
        return 2 * 3 * height * width

    def start_seconds(self, begin: int) -> float:
        """Return when the piece that begins with `begin` starts, in seconds."""
        return begin / _MICRO

    def first_at(self, seconds: float) -> int:
        """Return what the first piece at or after a time begins with."""
        return round(seconds * _MICRO)

    def piece_ranges(self, seconds: float, rate: float, unit_bytes: int, most: int | None) -> Iterator[PieceRange]:
        """Cut a video of some length and frame rate into pieces of at most `most` pairs."""
        in_min_seconds = min(math.ceil(_MIN_PIECE_SECONDS * rate), _MAX_PIECE_BYTES // unit_bytes)
        pairs = max(PIECE_BYTES // unit_bytes, in_min_seconds, 1)
        pairs = min(pairs, most or pairs)
        step = pairs / rate
        pieces = max(1, math.ceil(seconds / step - ROUNDING))
        for number in range(pieces):
            begin, is_last = round(number * step * _MICRO), number == pieces - 1
            end = None if is_last else round((number + 1) * step * _MICRO)
            about = max(1, round((seconds - number * step) * rate) - 1) if is_last else pairs
            yield PieceRange(begin, end, None if number else 0, about)

    def read(self, lookup: FrameLookup, begin: int, end: int | None) -> Iterator[VideoUnit]:
        """Read the pairs that start at or after microsecond `begin` and before `end`.

        A video that ends too early gives one error more, at the first missing pair.
        """
        first: TimedFrame | None = None
        before = -math.inf  # presentation time of the frame before `first`
        for second in lookup.frames_from(max(0.0, begin / _MICRO - _LOOKBACK)):
            if first is not None and round(first.time * _MICRO) >= begin:
                spacing = min(first.time - before, second.time - first.time)
                yield VideoUnit(first.time, _pair(first, second, first.number, first.time), spacing)
            elif first is not None and first.error is not None and round(second.time * _MICRO) > begin:
                # Damage that began in an earlier piece.
                yield VideoUnit(begin / _MICRO, first.error, second.time - begin / _MICRO)
            if end is not None and round(second.time * _MICRO) >= end:
                return
            first, before = second, before if first is None else first.time
        if lookup.early_end_error is not None:
            seconds = max(begin / _MICRO, first.time if first is not None else 0.0)
            yield VideoUnit(seconds, lookup.early_end_error, seconds - before)


@dataclass(frozen=True)
class PairsAtRate:
    """Pairs of the frames shown at k / fps and (k + 1) / fps seconds. Pieces are in pair numbers k."""

    fps: float

    def unit_bytes(self, height: int, width: int) -> int:
        """Bytes of a decoded pair."""
        return 2 * 3 * height * width

    def start_seconds(self, begin: int) -> float:
        """Return when the piece that begins with `begin` starts, in seconds."""
        return begin / self.fps

    def first_at(self, seconds: float) -> int:
        """Return the number of the first pair at or after a time."""
        return math.ceil(seconds * self.fps - ROUNDING)

    def piece_ranges(self, seconds: float, rate: float, unit_bytes: int, most: int | None) -> Iterator[PieceRange]:  # noqa: ARG002
        """Cut a video of some length into pieces of at most `most` pairs."""
        pairs = max(1, PIECE_BYTES // unit_bytes)
        return numbered_ranges(math.ceil(seconds * self.fps - ROUNDING) - 1, min(pairs, most or pairs))

    def read(self, lookup: FrameLookup, begin: int, end: int | None) -> Iterator[VideoUnit]:
        """Read pairs `begin` to `end`, exclusive. A video that ends too early gives one error more."""
        spacing = min(1 / lookup.video.frame_rate, 1 / self.fps)
        for number in count(begin) if end is None else range(begin, end):
            seconds = number / self.fps
            first, second = lookup.frame_at(seconds), lookup.frame_at((number + 1) / self.fps)
            if first is None or second is None:
                if lookup.early_end_error is not None:
                    yield VideoUnit(seconds, lookup.early_end_error, spacing)
                return
            yield VideoUnit(seconds, _pair(first, second, number, seconds), spacing)


def _pair(first: TimedFrame, second: TimedFrame, number: int, seconds: float) -> FramePair | Exception:
    """Return the pair that starts at `seconds`, or the error if a frame cannot be converted."""
    try:
        frames = [first.to_rgb(), second.to_rgb()]
    except Exception as error:  # noqa: BLE001  conversions raise anything: only this pair is lost
        return error
    if frames[0].shape != frames[1].shape:
        sizes = [f"{height} by {width}" for height, width, _ in (frame.shape for frame in frames)]
        return BadMedium(f"the video changes its frame size here, from {' to '.join(sizes)} pixels")
    return FramePair(frames=np.stack(frames), frame_index=number, start_seconds=seconds)
