"""Repair of an OUTPUT (`--repair`): what is damaged or strange is set aside, and `_run/` is rebuilt from the parts."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.formatting import counted
from pipeline.runtime.driver.quarantine_parts import list_quarantine, wrong_quarantine
from pipeline.runtime.driver.set_aside import put_aside
from pipeline.runtime.errors import UsageError
from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.plan_files import PLAN, check_plan_files, read_segments
from pipeline.runtime.plan.planned_parts import check_plan
from pipeline.runtime.plan.rebuilt_plan import FoundPart, put_rebuilt_plan, read_parts
from pipeline.runtime.records.committed import check_parts, list_parts, read_receipts_of_parts
from pipeline.runtime.records.crash_counts import read_crash_counts
from pipeline.runtime.records.drivers import read_markers
from pipeline.runtime.records.listing import read_listing
from pipeline.runtime.records.manifest import read_manifest
from pipeline.runtime.records.receipts import Receipt, read_receipts
from pipeline.runtime.records.run_file import Run, differences, find_run
from pipeline.sinks.ownership import RUN_FILE
from pipeline.sinks.parts import NotThisPart, parse_part_key, part_key
from pipeline.sinks.run_records import DamagedRecord
from pipeline.sources import Listing
from pipeline.storage import Entry, Missing, Store


def repair(output: Store, wanted: Run, columns: Sequence[str], discover: Callable[[], Listing]) -> list[str]:
    """Repair OUTPUT for the wanted run and return notes about what was done, none if nothing had to be.

    columns: of the rows of the wanted run. discover: lists INPUT. Raises UsageError if a driver is at work, or if the
    parts cannot be of the wanted run. An OUTPUT of a run with other settings is left alone.
    """
    notes = _set_damaged_records_aside(output)
    run = find_run(output)
    if run is None and (run := _rebuild_run_file(output, wanted, columns)):
        notes.append("run.json was rebuilt: the parts are assumed to be of a run with the settings of this command")
    if run is None or differences(run, wanted) is not None:
        return notes
    if alive := [marker for _, marker in read_markers(output, run.run) if marker.is_alive]:
        raise UsageError(f"{output.uri} is in use by process {alive[0].pid}: stop it before --repair")
    plan = _whole_plan(output)
    if plan is not None:
        notes += _set_wrong_parts_aside(output, run, plan)
    if plan is None or _lacks_parts(output, run, plan):
        notes += _rebuild_plan(output, run, discover)
    return notes


def _set_damaged_records_aside(output: Store) -> list[str]:
    """Set aside the files of `_run/` that cannot be read, but for those of the plan."""
    notes: list[str] = []
    while True:
        try:
            run = find_run(output)
            for read in (read_receipts, read_crash_counts, read_markers):
                list(read(output, run.run if run else ""))
            read_listing(output)
            with suppress(Missing):
                read_manifest(output)
        except DamagedRecord as error:
            notes += put_aside(output, None, [error.key])
        else:
            return notes


def _rebuild_run_file(output: Store, wanted: Run, columns: Sequence[str]) -> Run | None:
    """Write run.json for the run that most parts name, with the settings of the wanted one; None without parts."""
    parts = [key for key in output.keys("predictions/") if parse_part_key(key)]
    names = Counter(found[0] for key in parts if (found := parse_part_key(key)))
    if not names:
        return None
    name = names.most_common(1)[0][0]
    run = replace(wanted, run=name)
    for key in (key for key in parts if key.startswith(f"predictions/part-{name}-")):
        with output.open(key) as file:
            try:
                found = pq.read_schema(file).names
            except pa.ArrowInvalid:
                continue
        if found != list(columns):
            raise UsageError(
                f"{output.uri_of(key)} has the columns {', '.join(found)}, but a run with these settings writes "
                f"{', '.join(columns)}: give the settings of the run that made it"
            )
        break
    output.put_if_absent(RUN_FILE, run.to_json())
    return run


def _whole_plan(output: Store) -> Plan | None:
    """Return the plan if all of its files are there and as they were written, else None."""
    try:
        plan = Plan(segments=read_segments(output))
        check_plan_files(output, plan.segments)
    except DamagedRecord:
        return None
    return plan


def _set_wrong_parts_aside(output: Store, run: Run, plan: Plan) -> list[str]:
    """Set aside what is no part of the plan; parts beyond it stay, since the plan may have lost its end."""
    quarantine, listed = list_quarantine(output), list_parts(output, run.run)
    found = check_parts(output, run.run, listed, read_receipts(output, run.run), plan.part_digests())
    beyond = read_receipts_of_parts(output, run.run, {shard for shard in listed.shards if shard >= plan.shards})
    readable = {part_key(run.run, shard) for shard, part in beyond if isinstance(part, Receipt)}
    wrong = [key for key in found.wrong if key not in readable]
    shards = max([*(shard + 1 for shard in listed.shards), plan.shards])
    return put_aside(output, run.run, [*wrong, *wrong_quarantine(output, run.run, quarantine, shards)])


def _lacks_parts(output: Store, run: Run, plan: Plan) -> bool:
    try:
        check_plan(output, run.run, plan, list_parts(output, run.run, plan.rebuilt_shards).shards)
    except DamagedRecord:
        return True
    return False


def _rebuild_plan(output: Store, run: Run, discover: Callable[[], Listing]) -> list[str]:
    """Write a plan that says what the parts hold, in place of the one that was lost."""
    listed, parts = list_parts(output, run.run), []
    wrong = [*listed.foreign, *listed.others]
    seen: set[tuple[str, str]] = set()
    for shard, part in zip(sorted(listed.shards), read_parts(output, run, listed.shards), strict=True):
        if isinstance(part, NotThisPart) or not seen.isdisjoint(part.ids):
            wrong.append(part_key(run.run, shard))  # damaged, or a copy of rows that an earlier part has
        else:
            seen.update(part.ids)
            parts.append(part)
    notes = put_aside(output, run.run, wrong)
    notes += put_aside(output, run.run, list(output.keys(PLAN)))
    if parts:
        put_rebuilt_plan(output, run, parts, _entries(discover, parts))
        notes.append(f"the plan was rebuilt from {counted(len(parts), 'part')}")
    shards = max((part.footer.shard + 1 for part in parts), default=0)
    return notes + put_aside(output, run.run, wrong_quarantine(output, run.run, list_quarantine(output), shards))


def _entries(discover: Callable[[], Listing], parts: Iterable[FoundPart]) -> dict[str, Entry]:
    """Return the entries of INPUT that are quarantined as a whole, by key."""
    keys = {unit.id for part in parts for unit in part.footer.quarantined if (unit.key or unit.id) == unit.id}
    return {entry.key: entry for entry in discover().entries if entry.key in keys} if keys else {}
