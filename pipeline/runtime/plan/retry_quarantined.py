"""Retry of quarantined units (`--retry-quarantined`): they are planned again in a segment of their own.

A quarantined unit may stand for several: a file that could not be opened, or the rest of one that could not be read to
its end. So the pieces that it may come from are planned again, and units that they gave before are skipped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.plan_files import PlannedShard, sum_if_known
from pipeline.runtime.plan.planner import add_segment
from pipeline.runtime.plan.quarantined_files import QuarantinedFile, quarantined_files
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.runtime.plan.sharding import split_into_shards
from pipeline.runtime.records.run_file import Run
from pipeline.sources.listing.discovery import Listing
from pipeline.sources.source import Source
from pipeline.storage import Store, is_same_version


def freeze_retry_segment(
    output: Store, run: Run, plan: Plan, source: Source, discover: Callable[[], Listing], sizing: ShardSizing
) -> None:
    """Add a segment for the units in quarantine to the plan, if there are any.

    A file that changed is read in its new version if it is one unit, and skipped otherwise. A missing file is skipped.
    """
    while groups := sorted(quarantined_files(output, run, plan.segments), key=lambda group: group.key.encode()):
        readable = _readable_groups(groups, source, discover())
        shards = split_into_shards(readable, lambda group: group.pieces, sizing)
        if add_segment(output, plan, map(_planned_shard, shards), run.run, is_retry=True):
            return


def _readable_groups(groups: Sequence[QuarantinedFile], source: Source, found: Listing) -> Iterator[QuarantinedFile]:
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


def _planned_shard(groups: Sequence[QuarantinedFile]) -> PlannedShard:
    return PlannedShard(
        pieces=tuple(piece for group in groups for piece in group.pieces),
        origins=tuple(group.origins for group in groups for _ in group.pieces),
        replaces=sum(group.quarantined for group in groups),
        known=sum_if_known(group.units for group in groups),
    )
