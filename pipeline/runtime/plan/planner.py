"""Planning: inputs of the listing that no segment contains become the shards of the next segment."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import pyarrow as pa

from pipeline.faultpoints import reached
from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.input_pieces import count_left_out, pieces_of_entries
from pipeline.runtime.plan.new_inputs import NewInputs, find_new_inputs
from pipeline.runtime.plan.plan_files import (
    PlanFile,
    PlannedShard,
    Segment,
    put_plan_file,
    put_segment,
    read_segments,
)
from pipeline.runtime.plan.quarantined_files import QuarantinedFile, quarantined_files
from pipeline.runtime.plan.rebuilt_plan import units_read_before
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.runtime.plan.sharding import merge_neighbours, split_into_shards
from pipeline.runtime.plan.unit_limit import limit_units, skip_planned_units
from pipeline.runtime.records.run_file import find_run
from pipeline.sources.listing.discovery import Listing
from pipeline.sources.source import Piece, Source
from pipeline.storage import Store, is_same_version

FILE_PIECES = 1 << 16  # per plan file: a few MB in the driver's memory


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
    new: NewInputs | None = None,
) -> Plan:
    """Plan the inputs that no segment in OUTPUT contains, and return the whole plan.

    discover: lists INPUT; called again after another driver planned at the same time. new: the new inputs, if they are
    found already. redo: plan changed inputs again.
    kept: columns of INPUT in the rows; AccessError names a file with other types. run: OutputLost is raised if OUTPUT
    does not belong to it. claim: claims an OUTPUT that has no plan, or one that gives way, when all plan files are
    written, and returns the run. If it or the planning fails, the plan files are deleted.
    """
    reached("plan.begin")
    plan = new.plan if new else Plan.of([] if claim else read_segments(output))
    while True:
        new = new or find_new_inputs(output, plan, discover, sizing.limit, redo=redo)
        if new.entries is None:
            return plan
        found = new.listing
        pieces = count_left_out(pieces_of_entries(source, found.store, new.entries, kept, found), found)
        pieces = skip_planned_units(pieces, new.partly, source, found.store)
        pieces = limit_units(pieces, new.remaining, source, found.store)
        groups = split_into_shards(pieces, lambda piece: (piece,), sizing)
        superseded = _quarantined_before(output, plan) if redo else {}
        if add_segment(output, plan, _planned_shards(output, plan, groups, superseded), run, claim=claim):
            return plan
        new = None


def _quarantined_before(output: Store, plan: Plan) -> dict[str, list[QuarantinedFile]]:
    """Return the files with quarantined units, by key."""
    found: dict[str, list[QuarantinedFile]] = defaultdict(list)
    if plan.segments and (run := find_run(output)):
        for file in quarantined_files(output, run, plan.segments):
            found[file.key].append(file)
    return found


def _planned_shards(
    output: Store, plan: Plan, groups: Iterable[list[Piece]], superseded: dict[str, list[QuarantinedFile]]
) -> Iterator[PlannedShard]:
    """Yield the shards of these pieces; after a plan was rebuilt, without the units that its parts hold.

    superseded: files with quarantined units, by key. Of one that changed, the first shard that reads it replaces them.
    """
    read_before = units_read_before(output, plan.segments) if any(each.is_rebuilt for each in plan.segments) else None
    for group in groups:
        pieces = merge_neighbours(group)
        origins = tuple(map(read_before, pieces)) if read_before else ()
        earlier = [_changed(superseded.pop(piece.key, ()), piece) for piece in pieces]
        shards = tuple(tuple(file.origins[0] for file in files) for files in earlier)
        yield PlannedShard(
            pieces=pieces,
            origins=origins if any(origins) else (),
            supersedes=shards if any(shards) else (),
            replaces=sum(file.quarantined for file in chain(*earlier)),
        )


def _changed(files: Iterable[QuarantinedFile], piece: Piece) -> list[QuarantinedFile]:
    """Return the files whose version is no longer that of a new piece."""
    return [file for file in files if not is_same_version(file.pieces[0].version, piece.version)]


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
