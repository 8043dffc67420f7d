"""Retry of quarantined units (`--retry-quarantined`): they are planned again in a segment of their own.

A quarantined unit may stand for several: a file that could not be opened, or the rest of one that could not be read to
its end. So the pieces that it may come from are planned again, and units that they gave before are skipped.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.plan_files import (
    PlannedShard,
    Segment,
    pieces_in_row,
    planned_rows,
    retried_files,
    sum_if_known,
)
from pipeline.runtime.plan.planner import add_segment
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.runtime.plan.sharding import split_into_shards
from pipeline.runtime.records.committed import committed_receipts
from pipeline.runtime.records.origins import Origins
from pipeline.runtime.records.run_file import Run
from pipeline.sinks.parts import Quarantined, part_key, read_footer
from pipeline.sources.listing.discovery import Listing
from pipeline.sources.source import Piece, Source
from pipeline.storage import Store, is_same_version


@dataclass(frozen=True, kw_only=True)
class RetryGroup:
    """Pieces of one file that gave quarantined units; pieces of several if it is not known which one. origins: the
    shards that read them, the latest first. units: the number of units to retry, None if only reading the pieces tells.
    """

    pieces: tuple[Piece, ...]
    origins: tuple[int, ...]
    quarantined: int
    units: int | None

    @property
    def key(self) -> str:
        return self.pieces[0].key

    @property
    def is_whole_file(self) -> bool:
        """Whether the group is a whole file, or pair of files, of one unit."""
        return len(self.pieces) == 1 and self.pieces[0].begin is None and self.pieces[0].units == 1


def freeze_retry_segment(
    output: Store, run: Run, plan: Plan, source: Source, discover: Callable[[], Listing], sizing: ShardSizing
) -> None:
    """Add a segment for the units in quarantine to the plan, if there are any.

    A file that changed is read in its new version if it is one unit, and skipped otherwise. A missing file is skipped.
    """
    while groups := sorted(quarantined_groups(output, run, plan.segments), key=lambda group: group.key.encode()):
        readable = _readable_groups(groups, source, discover())
        shards = split_into_shards(readable, lambda group: group.pieces, sizing)
        if add_segment(output, plan, map(_planned_shard, shards), run.run, is_retry=True):
            return


def quarantined_groups(output: Store, run: Run, segments: Sequence[Segment]) -> Iterator[RetryGroup]:
    """Yield what committed parts quarantined and no later segment planned again."""
    planned = {(shard, key) for _, shard, key in retried_files(output, segments)}
    quarantined = {receipt.shard for receipt in committed_receipts(output, run.run) if receipt.quarantined}
    for shard, row in planned_rows(output, segments, quarantined):
        pieces, origins = pieces_in_row(row), row["again"] or [()] * len(row["pieces"])
        units = read_footer(output, part_key(run.run, shard)).quarantined
        for indices, count in _group_by_file(units, pieces, Origins.of(run)):
            if (shard, pieces[indices[0]].key) not in planned:
                group = tuple(pieces[index] for index in indices)
                known = count if all(piece.units is not None for piece in group) else None
                yield RetryGroup(pieces=group, origins=(shard, *origins[indices[0]]), quarantined=count, units=known)


def _group_by_file(
    units: Sequence[Quarantined], pieces: Sequence[Piece], origins: Origins
) -> Iterator[tuple[list[int], int]]:
    """Yield (indices of the pieces, number of their quarantined units) for each file. If it is not known which file a
    unit comes from, all pieces of the shard are together."""
    keys = {piece.key for piece in pieces}
    counts = Counter(origins.key_of(unit, keys) for unit in units)
    if None in counts:
        yield list(range(len(pieces))), len(units)
        return
    for key, count in counts.items():
        yield [index for index, piece in enumerate(pieces) if piece.key == key], count


def _readable_groups(groups: Sequence[RetryGroup], source: Source, found: Listing) -> Iterator[RetryGroup]:
    """Yield the groups whose files exist as planned, or can be read in their new version."""
    keys = {piece.key for group in groups for piece in group.pieces}
    entries = {entry.key: entry for entry in found.entries if entry.key in keys}
    versions = {key: entry.version for key, entry in entries.items()}
    for group in groups:
        entry = entries.get(group.key)
        if entry is None:
            continue
        if group.is_whole_file:  # cut again: a table that was denied, archived or damaged may be readable by now
            if pieces := tuple(source.pieces(found.store, entry)):
                yield replace(group, pieces=pieces, units=sum_if_known(piece.units for piece in pieces))
        elif all(is_same_version(piece.version, versions.get(piece.key, "")) for piece in group.pieces):
            pieces = tuple(each for piece in group.pieces for each in source.cut_again(found.store, piece))
            yield group if pieces == group.pieces else replace(group, pieces=pieces, units=None)


def _planned_shard(groups: Sequence[RetryGroup]) -> PlannedShard:
    return PlannedShard(
        pieces=tuple(piece for group in groups for piece in group.pieces),
        origins=tuple(group.origins for group in groups for _ in group.pieces),
        replaces=sum(group.quarantined for group in groups),
        known=sum_if_known(group.units for group in groups),
    )
