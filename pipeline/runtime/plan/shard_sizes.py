"""How many pieces make a shard."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.sources.source import Piece

SHARD_SECONDS = 30.0
"""Expected seconds of a replica for a shard. Progress and a restart after a crash are as fine as that."""

SHARD_BYTES = 32 << 20
SHARD_UNITS = 4096
SHARDS_PER_REPLICA = 4
"""Least number of shards, so that all replicas work to the end; but not of less than a second or 32 units each."""

_MIN_SECONDS, _MIN_UNITS = 1.0, 32
_PIECES_PER_SHARD = 8
_FLOPS_PER_SECOND = {"cpu": 2e11, "cuda": 1e14}  # rough: shards of 10 s or of two minutes serve as well


@dataclass(frozen=True)
class Amount:
    """Units, estimated bytes on their way through the stages, and expected seconds of a replica."""

    units: float = 0
    bytes: float = 0
    seconds: float = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.units + other.units, self.bytes + other.bytes, self.seconds + other.seconds)

    def exceeds(self, limit: "Amount") -> bool:
        """Return whether there is more of anything than in `limit`."""
        return self.units > limit.units or self.bytes > limit.bytes or self.seconds > limit.seconds


SHARD_LIMIT = Amount(SHARD_UNITS, SHARD_BYTES, SHARD_SECONDS)


def expected_seconds(flops: float, device: str) -> float:
    """Return roughly the seconds for this many operations on a device, "cpu" or "cuda"."""
    return flops / _FLOPS_PER_SECOND[device]


@dataclass(frozen=True, kw_only=True)
class ShardSizing:
    """Size of shards: `shard_size` units if given, else by units, bytes and expected seconds of work.

    Attributes:
        unit_bytes: estimate for a unit whose medium has an unknown size.
        unit_seconds: expected seconds of a replica for a pass through the model.
        passes: returns the passes of a unit whose decoded medium has so many bytes, None if unknown.
        growth: largest size of a unit on its way through the stages, divided by the size of its medium.
        replicas: each gets several shards.
        shard_size: set by the user.
        limit: maximum units of the whole plan.
    """

    unit_bytes: int
    unit_seconds: float = 0.0
    passes: Callable[[int | None], float] = lambda _: 1.0
    growth: float = 0.0
    replicas: int = 1
    shard_size: int | None = None
    limit: int | None = None

    @property
    def piece_units(self) -> int:
        """Number of units per piece, if a file can be cut so: small enough to make shards of."""
        if self.shard_size is not None:
            return self.shard_size
        costly = int(SHARD_SECONDS / _PIECES_PER_SHARD / self.unit_seconds) if self.unit_seconds else _MIN_UNITS
        return max(1, min(_MIN_UNITS, costly))

    def amount(self, piece: Piece) -> Amount:
        """Estimate a piece."""
        units = piece.units if piece.units is not None else piece.about or 1
        medium_bytes = None if piece.weight is None else piece.weight // max(1, units)
        seconds = max(1, units) * self.passes(medium_bytes) * self.unit_seconds
        return Amount(max(1, units), self._bytes(piece), seconds)

    @property
    def small_plan(self) -> Amount:
        """A plan of at most this amount would give each replica too few shards of full size."""
        if self.shard_size is not None:
            return Amount()
        shards = SHARDS_PER_REPLICA * self.replicas
        return Amount(shards * SHARD_UNITS, shards * SHARD_BYTES, shards * SHARD_SECONDS)

    def shard_limit(self, total: Amount | None) -> Amount:
        """Return the largest shard of a plan of this total amount; None if it is not a small plan."""
        if self.shard_size is not None:
            return Amount(self.shard_size, math.inf, math.inf)
        if total is None:
            return SHARD_LIMIT
        shards = SHARDS_PER_REPLICA * self.replicas
        units = max(_MIN_UNITS, math.ceil(total.units / shards))
        return Amount(
            min(SHARD_UNITS, units), SHARD_BYTES, min(SHARD_SECONDS, max(_MIN_SECONDS, total.seconds / shards))
        )

    def _bytes(self, piece: Piece) -> int:
        """Estimate the bytes of a piece on its way through the stages: of its file, or of its arrays and outputs."""
        units = piece.units or piece.about or 1
        if piece.weight is not None:
            return max(piece.weight, int(piece.weight * self.growth) or units * self.unit_bytes)
        read = piece.size if piece.begin is None or piece.end is None else piece.end - piece.begin
        return max(read, units * self.unit_bytes)
