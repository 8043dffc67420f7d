"""From pieces to shards."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TypeVar

from pipeline.runtime.plan.shard_sizes import Amount, ShardSizing
from pipeline.sources.source import Piece

T = TypeVar("T")
MAX_LOOKED_AT = 1 << 16  # items that are held in memory to learn whether a plan is small


def split_into_shards(
    items: Iterable[T], pieces_of: Callable[[T], Iterable[Piece]], sizing: ShardSizing
) -> Iterator[list[T]]:
    """Group the items, in their order, into shards; the pieces of an item stay together.

    The first items are estimated before the first shard is made: few items make smaller shards.
    """
    estimated = ((item, sum(map(sizing.amount, pieces_of(item)), Amount())) for item in items)
    first, total = _look_ahead(estimated, sizing)
    limit = sizing.shard_limit(total)
    shard: list[T] = []
    amount = Amount()
    for item, more in chain(first, estimated):
        if shard and (amount + more).exceeds(limit):
            yield shard
            shard, amount = [], Amount()
        shard.append(item)
        amount += more
    if shard:
        yield shard


def _look_ahead(
    estimated: Iterator[tuple[T, Amount]], sizing: ShardSizing
) -> tuple[list[tuple[T, Amount]], Amount | None]:
    """Take items until they need shards of full size; return them, and their total if they are all."""
    enough = sizing.small_plan
    first: list[tuple[T, Amount]] = []
    total = Amount()
    for item, amount in estimated:
        first.append((item, amount))
        total += amount
        if total.exceeds(enough) or len(first) == MAX_LOOKED_AT:
            return first, None
    return first, total


def merge_neighbours(pieces: Sequence[Piece]) -> list[Piece]:
    """Merge pieces of a shard that continue each other in one file, so that it is opened once."""
    merged: list[Piece] = []
    for piece in pieces:
        if merged and _continues(merged[-1], piece):
            merged[-1] = merged[-1].joined(piece)
        else:
            merged.append(piece)
    return merged


def _continues(piece: Piece, other: Piece) -> bool:
    """Return whether `other` is the next part of the same file, and neither is special.

    Parts of different record batches stay apart: damage in one must not cost the other.
    """
    if piece.end is None or piece.end != other.begin:
        return False
    is_numbered = piece.units is None and (piece.first, other.first) == (piece.begin, other.begin)  # units of a video
    if piece.first != other.first and not is_numbered:
        return False
    plain = replace(piece, begin=other.begin, end=other.end, first=None, units=None, about=None, weight=None)
    if plain != replace(other, first=None, units=None, about=None, weight=None) or plain.skip or plain.most:
        return False
    special = plain.video_begin, plain.video_end, plain.left_out, plain.links
    return special == (None, None, None, None)
