"""Second chances: units that are in quarantine, planned once more in a segment of their own.

A unit may stand for more than itself: a file that could not be opened, the rest of one that could not be read on. So it
is not the unit that is planned again but the pieces it may come from, and what they have given already is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.runtime.plan.plan_files import (
    PlanFile,
    PlannedShard,
    Segment,
    pieces_in_row,
    put_segment,
    read_plan_file,
    read_segments,
    sum_if_known,
)
from pipeline.runtime.plan.planner import Plan, ShardSizing, put_plan_files
from pipeline.runtime.records.committed import committed_shards, receipts_from_footers, recorded_receipts
from pipeline.sinks.parts import Quarantined, part_key, read_footer
from pipeline.sources.discovery import Listing
from pipeline.sources.source import Piece, Source
from pipeline.storage import Entry, Store


@dataclass(frozen=True, kw_only=True)
class RetryGroup:
    """Pieces of one file that gave quarantined units. origins: the shards that read them, the last one first. units:
    how many are still to come, None where only reading them tells."""

    pieces: tuple[Piece, ...]
    origins: tuple[int, ...]
    quarantined: int
    units: int | None

    @property
    def key(self) -> str:
        return self.pieces[0].key

    @property
    def whole(self) -> bool:
        """Whether a file, or a pair of them, gave nothing but this."""
        return len(self.pieces) == 1 and self.pieces[0].begin is None and self.pieces[0].units == 1


def freeze_retry_segment(
    output: Store, run: str, plan: Plan, source: Source, discover: Callable[[], Listing], sizing: ShardSizing
) -> Plan:
    """The plan with one segment more, of the units that stand in quarantine; the plan itself where none does.

    A file that changed since is read as it is now where nothing else of it was predicted; else it is left as it is, and
    so is one that is gone.
    """
    while True:
        found = discover()
        seconds = sorted(
            _quarantined_groups(output, run, plan.segments, found.store), key=lambda second: second.key.encode()
        )
        shards = _retry_shards(_readable_groups(seconds, source, found), sizing)
        files = tuple(put_plan_files(output, shards, plan))
        if not files:
            return plan
        segment = Segment(number=len(plan.segments), files=files, is_retry=True)
        if put_segment(output, segment, run):
            return replace(plan, segments=[*plan.segments, segment])
        plan = replace(plan, segments=read_segments(output))  # another driver planned at the same time, and won


def _quarantined_groups(output: Store, run: str, segments: Sequence[Segment], inputs: Store) -> Iterator[RetryGroup]:
    """What is quarantined now: what committed parts say, but for what a later segment has planned again."""
    planned = set(_retried_pieces(output, segments))
    for shard, row in _plan_rows(output, segments, _shards_with_quarantine(output, run)):
        pieces, before = pieces_in_row(row), row["again"] or [()] * len(row["pieces"])
        units = read_footer(output, part_key(run, shard)).quarantined
        for places, count in _group_by_file(units, pieces, inputs):
            if (shard, pieces[places[0]].key) not in planned:
                these = tuple(pieces[place] for place in places)
                known = count if all(piece.units is not None for piece in these) else None
                yield RetryGroup(pieces=these, origins=(shard, *before[places[0]]), quarantined=count, units=known)


def _group_by_file(
    units: Sequence[Quarantined], pieces: Sequence[Piece], inputs: Store
) -> Iterator[tuple[list[int], int]]:
    """(places of the pieces, quarantined units that came from them), file by file. Units that have another's URI, as
    rows of an earlier run do, may have come from any piece of the shard."""
    uris = [inputs.uri_of(piece.key) for piece in pieces]
    counts = Counter(unit.uri for unit in units)
    if counts.keys() - set(uris):
        yield list(range(len(pieces))), len(units)
        return
    for uri, count in counts.items():
        yield [place for place, one in enumerate(uris) if one == uri], count


def _shards_with_quarantine(output: Store, run: str) -> set[int]:
    """The committed shards that have quarantined units."""
    there = committed_shards(output, run)
    heard = recorded_receipts(output, run, there)
    unheard = receipts_from_footers(output, run, there - heard.keys(), heal=False)
    return {receipt.shard for receipt in [*heard.values(), *unheard] if receipt.quarantined}


def _plan_rows(output: Store, segments: Sequence[Segment], shards: set[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The plan rows of these shards."""
    for file in (file for segment in segments for file in segment.files):
        wanted = sorted(shards & set(range(file.first_shard, file.first_shard + file.shards)))
        if wanted:
            table = read_plan_file(output, file.name, file.sha256)
            yield from ((shard, table.slice(shard - file.first_shard, 1).to_pylist()[0]) for shard in wanted)


def _retried_pieces(output: Store, segments: Sequence[Segment]) -> Iterator[tuple[int, str]]:
    """(shard, key) of what segments like this one have planned already."""
    files: list[PlanFile] = [file for segment in segments if segment.is_retry for file in segment.files]
    for file in files:
        for row in read_plan_file(output, file.name, file.sha256, ["pieces", "again"]).to_pylist():
            yield from ((origins[0], piece["key"]) for origins, piece in zip(row["again"], row["pieces"], strict=True))


def _readable_groups(seconds: Iterable[RetryGroup], source: Source, found: Listing) -> Iterator[RetryGroup]:
    """Those whose files are still there and as they were planned, or can be read as they are now."""
    wanted = list(seconds)
    keys = {second.key for second in wanted}
    entries: dict[str, Entry] = {entry.key: entry for entry in found.entries if entry.key in keys}
    for second in wanted:
        entry = entries.get(second.key)
        if entry is None:
            continue
        if entry.version == second.pieces[0].version:
            yield second
        elif second.whole and (pieces := tuple(source.pieces(found.store, entry))):
            yield replace(second, pieces=pieces, units=sum_if_known(piece.units for piece in pieces))


def _retry_shards(seconds: Iterable[RetryGroup], sizing: ShardSizing) -> Iterator[PlannedShard]:
    """Their shards; the pieces of one file are not parted."""
    group: list[RetryGroup] = []
    units = size = 0
    for second in seconds:
        group.append(second)
        units += sum(sizing.units_of(piece) for piece in second.pieces)
        size += sum(sizing.bytes_of(piece) for piece in second.pieces)
        if sizing.is_full(units, size):
            yield _retry_shard(group)
            group, units, size = [], 0, 0
    if group:
        yield _retry_shard(group)


def _retry_shard(group: Sequence[RetryGroup]) -> PlannedShard:
    return PlannedShard(
        pieces=tuple(piece for second in group for piece in second.pieces),
        origins=tuple(second.origins for second in group for _ in second.pieces),
        replaces=sum(second.quarantined for second in group),
        known=sum_if_known(second.units for second in group),
    )
