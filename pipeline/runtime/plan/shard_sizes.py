"""How many pieces make a shard."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from pipeline.sources.source import Piece

T = TypeVar("T")
SHARD_BYTES = 32 << 20
SHARD_UNITS = 256


@dataclass(frozen=True, kw_only=True)
class ShardSizing:
    """Size of shards: `shard_size` units if given, else by bytes. `limit`: maximum units of the whole plan.

    unit_bytes: estimate for a unit whose medium has an unknown size. growth: largest size of a unit on its way through
    the stages, divided by the size of its medium.
    """

    unit_bytes: int
    growth: float = 0.0
    shard_size: int | None = None
    limit: int | None = None

    def is_full(self, units: int, size: int) -> bool:
        """Return whether a shard of this many units and estimated bytes is complete."""
        if self.shard_size is not None:
            return units >= self.shard_size
        return units >= SHARD_UNITS or size >= SHARD_BYTES

    def units_of(self, piece: Piece) -> int:
        """Return the known or estimated number of units of a piece, at least one."""
        return max(1, piece.units if piece.units is not None else piece.about or 1)

    def bytes_of(self, piece: Piece) -> int:
        """Estimate the bytes of a piece on its way through the stages: of its file, or of its arrays and outputs."""
        units = piece.units or piece.about or 1
        if piece.weight is not None:
            return max(piece.weight, int(piece.weight * self.growth) or units * self.unit_bytes)
        read = piece.size if piece.begin is None or piece.end is None else piece.end - piece.begin
        return max(read, units * self.unit_bytes)


def split_into_shards(
    items: Iterable[T], pieces_of: Callable[[T], Iterable[Piece]], sizing: ShardSizing
) -> Iterator[list[T]]:
    """Group the items, in their order, into shards; the pieces of an item stay together."""
    shard: list[T] = []
    units = size = 0
    for item in items:
        shard.append(item)
        for piece in pieces_of(item):
            units, size = units + sizing.units_of(piece), size + sizing.bytes_of(piece)
        if sizing.is_full(units, size):
            yield shard
            shard, units, size = [], 0, 0
    if shard:
        yield shard
