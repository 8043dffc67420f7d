"""From a listing to frozen shards: what is new since the segments that exist becomes the next segment."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.faultpoints import reached
from pipeline.runtime.plan.plan_files import (
    PlanFile,
    PlannedShard,
    Segment,
    planned_versions,
    put_plan_file,
    put_segment,
    read_segments,
    sum_if_known,
)
from pipeline.runtime.plan.unit_limit import limit_units, partly_planned, skip_planned_units
from pipeline.sinks.schema import with_plain_types
from pipeline.sources.discovery import Listing
from pipeline.sources.source import Piece, Source
from pipeline.storage import AccessError, Entry, Store

SHARD_BYTES = 32 << 20
SHARD_UNITS = 256
OPENED = 16  # files at a time, where planning opens them: it waits for the store
FILE_PIECES = 1 << 16  # a few MB of plan in the driver at a time


@dataclass(frozen=True, kw_only=True)
class ShardSizing:
    """How large a shard is: `shard_size` units where it is given, else by bytes. `limit`: units of the whole plan.

    unit_bytes: of a unit whose medium's size is not known; growth: bytes of a unit on its way over its medium's.
    """

    unit_bytes: int
    growth: float = 0.0
    shard_size: int | None = None
    limit: int | None = None

    def is_full(self, units: int, size: int) -> bool:
        """Whether a shard of that many units and estimated bytes is as large as it should be."""
        if self.shard_size is not None:
            return units >= self.shard_size
        return units >= SHARD_UNITS or size >= SHARD_BYTES

    def units_of(self, piece: Piece) -> int:
        """Units of a piece as far as it says, one at least."""
        return max(1, piece.units if piece.units is not None else piece.about or 1)

    def bytes_of(self, piece: Piece) -> int:
        """Estimated bytes of a piece on its way: the larger of what is read and of its arrays and outputs."""
        units = piece.units or piece.about or 1
        if piece.weight is not None:
            return max(piece.weight, int(piece.weight * self.growth) or units * self.unit_bytes)
        read = piece.size if piece.begin is None or piece.end is None else piece.end - piece.begin
        return max(read, units * self.unit_bytes)


@dataclass(kw_only=True)
class Plan:
    """The whole plan of a run. `changed`: inputs whose version is no longer the planned one, and which were left so."""

    segments: list[Segment] = field(default_factory=list)
    changed: int = 0

    @property
    def files(self) -> list[PlanFile]:
        return [file for segment in self.segments for file in segment.files]

    @property
    def shards(self) -> int:
        return sum(segment.shards for segment in self.segments)

    @property
    def units(self) -> int | None:
        """Planned units, None where only opening the inputs tells."""
        return sum_if_known(segment.units for segment in self.segments)

    @property
    def estimated_units(self) -> int:
        """Planned units as far as they are known or guessed."""
        return sum(file.about for file in self.files)


def freeze_plan(
    output: Store,
    source: Source,
    discover: Callable[[], Listing],
    sizing: ShardSizing,
    *,
    redo: bool = False,
    kept: pa.Schema | None = None,
    run: str | None = None,
) -> Plan:
    """Plan in OUTPUT what INPUT has beyond the segments there, and return the whole plan.

    `discover` lists INPUT, once and again after each race that was lost. `redo` plans changed inputs anew. `kept`: the
    columns that rows carry along; AccessError names a file that has others. `run`: the one whose OUTPUT it must be;
    OutputLost where it no longer is.
    """
    reached("plan.begin")
    plan = Plan(segments=read_segments(output))
    while True:
        plan.changed, found = 0, discover()
        cut_short = partly_planned(output, plan.segments)
        fresh = _unplanned_entries(output, plan, found.entries, cut_short, redo=redo)
        left = None if sizing.limit is None else sizing.limit - plan.estimated_units
        if left is not None and left <= 0:
            deque(fresh, maxlen=0)  # which counts what has changed
            return plan
        pieces = skip_planned_units(pieces_of_entries(source, found.store, fresh, kept), cut_short, source, found.store)
        pieces = limit_units(pieces, left, source, found.store)
        shards = (PlannedShard(pieces=pieces) for pieces in split_into_shards(pieces, sizing))
        files = tuple(put_plan_files(output, shards, plan))
        if not files:
            return plan
        segment = Segment(number=len(plan.segments), files=files)
        if put_segment(output, segment, run):
            plan.segments.append(segment)
            return plan
        plan.segments = read_segments(output)  # of another driver, which won: what it has not is still to plan


def split_into_shards(pieces: Iterable[Piece], sizing: ShardSizing) -> Iterator[list[Piece]]:
    """The pieces, in their order, by shard."""
    shard: list[Piece] = []
    units = size = 0
    for piece in pieces:
        shard.append(piece)
        units, size = units + sizing.units_of(piece), size + sizing.bytes_of(piece)
        if sizing.is_full(units, size):
            yield shard
            shard, units, size = [], 0, 0
    if shard:
        yield shard


def pieces_of_entries(
    source: Source, store: Store, entries: Iterable[Entry], kept: pa.Schema | None = None
) -> Iterator[Piece]:
    """The pieces of the entries in their order; where files are opened for it, of several at a time."""

    def split(entry: Entry) -> list[Piece]:
        if kept is not None and len(kept):
            _check_kept(store, entry, kept, with_plain_types(source.kept(store, entry)))
        return list(source.pieces(store, entry))

    with ThreadPoolExecutor(OPENED) as pool:
        ahead: deque[Future[list[Piece]]] = deque()
        try:
            for entry in entries:
                while ahead and (len(ahead) >= 2 * OPENED or ahead[0].done()):
                    yield from ahead.popleft().result()
                if ahead or source.opens_file(entry.key):
                    ahead.append(pool.submit(split, entry))
                else:  # of a million pictures none goes by way of a thread
                    yield from split(entry)
            while ahead:
                yield from ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _check_kept(store: Store, entry: Entry, wanted: pa.Schema, found: pa.Schema) -> None:
    for field_ in wanted if len(found) else ():  # a damaged file has none, and no rows either
        kind = found.field(field_.name).type
        if kind != field_.type and not pa.types.is_null(kind):  # pandas writes so what is null throughout
            raise AccessError(
                f"{store.uri_of(entry.key)}: column {field_.name!r} is {kind}, in the first file it is {field_.type}"
            )


def put_plan_files(output: Store, shards: Iterable[PlannedShard], plan: Plan) -> Iterator[PlanFile]:
    """Plan files of the shards, as many as it takes, numbered on from the plan."""
    first, count = plan.shards, 0
    pending: list[PlannedShard] = []
    for shard in shards:
        pending.append(shard)
        count += len(shard.pieces)
        if count >= FILE_PIECES:
            yield put_plan_file(output, len(plan.segments), first, pending)
            first, count, pending = first + len(pending), 0, []
    if pending:
        yield put_plan_file(output, len(plan.segments), first, pending)


def _unplanned_entries(
    output: Store, plan: Plan, entries: Iterable[Entry], cut_short: Container[str], *, redo: bool
) -> Iterator[Entry]:
    """The entries that no segment plans, or not to their end.

    Both sides come in byte order of keys, so neither is ever held whole.
    """
    planned = _planned_versions(output, plan.segments)
    ahead = next(planned, None)
    for entry in _check_order(entries):
        while ahead is not None and _bytes(ahead[0]) < _bytes(entry.key):
            ahead = next(planned, None)
        if ahead is None or ahead[0] != entry.key:
            yield entry
        elif ahead[1] != entry.version:
            if redo:
                yield entry
            else:
                plan.changed += 1
        elif entry.key in cut_short:
            yield entry


def _planned_versions(output: Store, segments: list[Segment]) -> Iterator[tuple[str, str]]:
    """(key, version) of every planned input, in byte order of keys; of several segments the last one counts."""

    def stream(segment: Segment) -> Iterator[tuple[bytes, int, str, str]]:
        return ((_bytes(key), -segment.number, key, version) for key, version in planned_versions(output, segment))

    last = None
    for encoded, _, key, version in heapq.merge(*map(stream, segments)):
        if encoded != last:
            yield key, version
        last = encoded


def _check_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries as they come; a listing out of order would be planned twice by the merge above."""
    last = b""
    for entry in entries:
        if (key := _bytes(entry.key)) <= last:
            raise RuntimeError(f"the listing of INPUT is not in byte order of keys: {entry.key!r} came after {last!r}")
        last = key
        yield entry


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
