"""How a plan cuts a video into pieces, from its declared length alone, and the ids of its units.

The last piece has no end: a video may be longer than it declares.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.media import Clip, FramePair

PIECE_BYTES = 16 << 20
"""Bytes of the decoded frame pairs of a piece."""

ROUNDING = 1e-6
"""Units by which a computed number of units may be too high because of rounding."""

_MIN_FRAME_BYTES = 8  # no video has smaller frames on average; so a wrong length cannot make a billion pieces
_MAX_SMALL_FRAME_SECONDS = 1.0  # nor are such small frames shown for longer; so the last piece is not a long one
_MILLISECONDS_SPACING = 0.002  # seconds between units below which ids with milliseconds may be equal


class PieceRange(NamedTuple):
    """The part of a video that a piece reads.

    Attributes:
        begin, end: in microseconds (consecutive pairs) or unit numbers (other units); end is None for the last piece.
        first: number of the first unit; None if unknown.
        about: expected number of units.
    """

    begin: int
    end: int | None
    first: int | None
    about: int


class VideoUnit(NamedTuple):
    """A unit read from a video.

    Attributes:
        seconds: start of the unit.
        content: the pair or clip, or the error that prevents its prediction.
        spacing: seconds to the nearest other unit, see `unit_id`.
    """

    seconds: float
    content: FramePair | Clip | Exception
    spacing: float


def plausible_seconds(declared: float, rate: float, size: int) -> float:
    """Limit a declared length in seconds to what a file of `size` bytes can hold at `rate` frames per second."""
    return min(declared, size / _MIN_FRAME_BYTES * min(1 / rate, _MAX_SMALL_FRAME_SECONDS))


def unit_id(name: str, seconds: float, spacing: float, mark: str = "#") -> str:
    """Return `name#seconds`, with milliseconds, or microseconds if the nearest unit is less than 2 ms away."""
    return f"{name}{mark}{seconds:.{6 if spacing < _MILLISECONDS_SPACING else 3}f}"


def numbered_ranges(count: int, units_per_piece: int) -> Iterator[PieceRange]:
    """Cut units that are counted by number into pieces; at least one piece."""
    count = max(1, count)
    for begin in range(0, count, units_per_piece):
        end = begin + units_per_piece
        yield PieceRange(begin, None if end >= count else end, begin, min(units_per_piece, count - begin))
