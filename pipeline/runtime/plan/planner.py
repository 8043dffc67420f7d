"""Planning: inputs of the listing that no segment contains become the shards of the next segment."""

import heapq
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

import pyarrow as pa

from pipeline.faultpoints import reached
from pipeline.runtime.plan.plan_files import (
    PlanFile,
    PlannedInput,
    PlannedShard,
    Segment,
    planned_inputs,
    put_plan_file,
    put_segment,
    read_segments,
    sum_if_known,
)
from pipeline.runtime.plan.unit_limit import limit_units, partly_planned, skip_planned_units
from pipeline.sinks.schema import with_plain_types
from pipeline.sources.discovery import Listing
from pipeline.sources.source import ColumnMismatch, Piece, Source
from pipeline.storage import Entry, Reason, Store

T = TypeVar("T")
SHARD_BYTES = 32 << 20
SHARD_UNITS = 256
OPENED = 16  # files open at the same time during planning, because opening waits for the store
FILE_PIECES = 1 << 16  # per plan file: a few MB in the driver's memory


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


@dataclass(kw_only=True)
class Plan:
    """The whole plan of a run. `changed`: inputs that have another version than planned and are not planned again.
    `listing`: of INPUT, as far as this planning listed it."""

    segments: list[Segment] = field(default_factory=list)
    changed: int = 0
    listing: Listing | None = None

    @property
    def files(self) -> list[PlanFile]:
        return [file for segment in self.segments for file in segment.files]

    @property
    def shards(self) -> int:
        return sum(segment.shards for segment in self.segments)

    @property
    def units(self) -> int | None:
        """Planned units, None if only opening the inputs tells."""
        return sum_if_known(segment.units for segment in self.segments)

    @property
    def estimated_units(self) -> int:
        """Sum of known and estimated planned units."""
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
    claim: Callable[[], str] | None = None,
) -> Plan:
    """Plan the inputs that no segment in OUTPUT contains, and return the whole plan.

    discover: lists INPUT; called again after another driver planned at the same time. redo: plan changed inputs again.
    kept: columns of INPUT in the rows; AccessError names a file with other types. run: OutputLost is raised if OUTPUT
    does not belong to it. claim: claims an OUTPUT that has no plan, or one that gives way, when all plan files are
    written, and returns the run. If it or the planning fails, the plan files are deleted.
    """
    reached("plan.begin")
    plan = Plan(segments=[] if claim else read_segments(output))
    while True:
        plan.changed, plan.listing = 0, (found := discover())
        partly = partly_planned(output, plan.segments)
        remaining = None if sizing.limit is None else sizing.limit - plan.estimated_units
        partly = partly if remaining is None or remaining > 0 else {}
        entries = _unplanned_entries(output, plan, found, partly, redo=redo)
        if remaining is not None and remaining <= 0:
            deque(entries, maxlen=0)  # to count changed inputs
            return plan
        pieces = _count_left_out(pieces_of_entries(source, found.store, entries, kept, found), found)
        pieces = skip_planned_units(pieces, partly, source, found.store)
        pieces = limit_units(pieces, remaining, source, found.store)
        groups = split_into_shards(pieces, lambda piece: (piece,), sizing)
        if add_segment(output, plan, (PlannedShard(pieces=group) for group in groups), run, claim=claim):
            return plan


def add_segment(
    output: Store,
    plan: Plan,
    shards: Iterable[PlannedShard],
    run: str | None,
    *,
    claim: Callable[[], str] | None = None,
    is_retry: bool = False,
) -> bool:
    """Write the shards, if there are any, as the next segment of the plan.

    Return False if another driver planned at the same time and won; the plan then has that driver's segments instead.
    """
    files: list[PlanFile] = []
    try:
        files.extend(put_plan_files(output, shards, plan))
        run = claim() if claim else run
    except Exception:
        for file in files:
            output.delete(file.name)
        raise
    if not files:
        return True
    segment = Segment(number=len(plan.segments), files=tuple(files), is_retry=is_retry)
    created = put_segment(output, segment, run)
    plan.segments = [*plan.segments, segment] if created else read_segments(output)
    return created


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


def pieces_of_entries(
    source: Source,
    store: Store,
    entries: Iterable[Entry],
    kept: pa.Schema | None = None,
    found: Listing | None = None,
) -> Iterator[Piece]:
    """Yield the pieces of the entries in their order; files that must be opened are opened several at a time.

    Tables without the columns that the run needs are left out of `found` as it says, unless no file remains.
    """

    def split(entry: Entry) -> list[Piece]:
        if kept is not None and len(kept):
            _check_kept(store, entry, kept, with_plain_types(source.kept(store, entry)))
        return list(source.pieces(store, entry))

    with ThreadPoolExecutor(OPENED) as pool:
        ahead: deque[tuple[Entry, Future[list[Piece]]]] = deque()

        def finished() -> list[Piece]:
            entry, future = ahead.popleft()
            try:
                return future.result()
            except ColumnMismatch as error:
                reason = None if found is None else found.reason_without_column(entry, error)
                if found is None or reason is None:
                    raise
                found.leave_out(entry.key, reason)
                if found.read == 0 and found.complete and not ahead:  # no file is left to read
                    raise
                return []

        try:
            for entry in entries:
                while ahead and (len(ahead) >= 2 * OPENED or ahead[0][1].done()):
                    yield from finished()
                if ahead or source.opens_file(entry):
                    ahead.append((entry, pool.submit(split, entry)))
                else:  # without the overhead of a thread: there may be a million images
                    yield from split(entry)
            while ahead:
                yield from finished()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _check_kept(store: Store, entry: Entry, wanted: pa.Schema, found: pa.Schema) -> None:
    for field_ in wanted if len(found) else ():  # a damaged file has no columns, and gives no rows
        kind = found.field(field_.name).type
        if kind != field_.type and not pa.types.is_null(kind):  # as pandas writes a column of nulls
            raise ColumnMismatch(
                f"{store.uri_of(entry.key)}: column {field_.name!r} has the type {kind}, in the first file "
                f"{field_.type}: a kept column must have one type in all files"
            )


def put_plan_files(output: Store, shards: Iterable[PlannedShard], plan: Plan) -> Iterator[PlanFile]:
    """Write the shards to plan files, with numbers that continue those of the plan."""
    first, count = plan.shards, 0
    pending: list[PlannedShard] = []
    for shard in shards:
        pending.append(shard)
        count += sum(1 + len(piece.left_out or ()) for piece in shard.pieces)
        if count >= FILE_PIECES:
            yield put_plan_file(output, len(plan.segments), first, pending)
            first, count, pending = first + len(pending), 0, []
    if pending:
        yield put_plan_file(output, len(plan.segments), first, pending)


def _count_left_out(pieces: Iterable[Piece], found: Listing) -> Iterator[Piece]:
    """Yield the pieces, and count files without units and members of archives as left out; the plan keeps both."""
    for piece in pieces:
        if piece.end == 0:
            found.leave_out(piece.key, Reason.NO_UNITS)
        found.leave_out_members(piece.key, piece.left_out or ())
        yield piece


def _unplanned_entries(
    output: Store, plan: Plan, found: Listing, partly: Container[str], *, redo: bool
) -> Iterator[Entry]:
    """Yield the entries that no segment plans, or only partly. Count changed ones, and what is left out of the others.

    Listing and plan are merged in byte order of keys, so neither is held in memory.
    """
    planned = _planned_inputs(output, plan.segments)
    ahead = next(planned, None)
    for entry in _check_order(found.entries):
        key = _bytes(entry.key)
        while ahead is not None and ahead[0] < key:
            ahead = next(planned, None)
        if ahead is None or ahead[0] != key:
            yield entry
        elif ahead[1].version != entry.version:
            if redo:
                yield entry
            else:
                plan.changed += 1
        elif entry.key in partly:
            yield entry
        else:
            if ahead[1].is_empty:
                found.leave_out(entry.key, Reason.NO_UNITS)
            for members in ahead[1].left_out.values():
                found.leave_out_members(entry.key, members)


def _planned_inputs(output: Store, segments: list[Segment]) -> Iterator[tuple[bytes, PlannedInput]]:
    """Yield (encoded key, input) of every planned input in byte order of keys, as the latest segment has it.

    Members that are left out are those of all segments that planned this version.
    """

    def stream(segment: Segment) -> Iterator[tuple[bytes, int, PlannedInput]]:
        return ((_bytes(each.key), -segment.number, each) for each in planned_inputs(output, segment))

    for key, planned in groupby(heapq.merge(*map(stream, segments)), key=itemgetter(0)):
        latest, *earlier = (each for _, _, each in planned)
        for each in earlier:
            if each.version == latest.version:
                latest.left_out.update(each.left_out)
        yield key, latest


def _check_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the entries; RuntimeError if they are out of order, because the merge would then plan inputs twice."""
    last = b""
    for entry in entries:
        if (key := _bytes(entry.key)) <= last:
            raise RuntimeError(f"the listing of INPUT is not in byte order of keys: {entry.key!r} came after {last!r}")
        last = key
        yield entry


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
