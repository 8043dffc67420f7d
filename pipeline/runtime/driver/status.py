"""Status of a run, read from OUTPUT alone: needs no cluster and writes nothing."""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pipeline.formatting import count, counted, duration
from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.plan_files import check_plan_files, read_segments
from pipeline.runtime.plan.planned_parts import check_plan
from pipeline.runtime.records.committed import committed_receipts
from pipeline.runtime.records.crash_counts import read_crash_counts
from pipeline.runtime.records.drivers import Marker, describe_drivers, read_markers
from pipeline.runtime.records.listing import ListedInputs, read_listing
from pipeline.runtime.records.manifest import MANIFEST, read_manifest
from pipeline.runtime.records.receipts import Receipt
from pipeline.runtime.records.resume_command import resume_command
from pipeline.runtime.records.run_file import Run, read_run
from pipeline.storage import Missing, Store


@dataclass(frozen=True, kw_only=True, repr=False)
class Status:
    """Status of a run.

    `finished`: all shards are committed and the manifest is written. `units_per_second`: of the latest driver, None
    before its second shard. `seconds_left`: at that rate, whether or not a driver is running. `listed`: counts of the
    latest listing of INPUT, None if an earlier version made it. `drivers`: those that did not say that they ended.
    `last_recorded`: when a driver recorded the latest shard, in seconds since 1970, None before that.
    """

    run: Run
    output: str
    plan: Plan
    shards_done: int
    rows: int
    quarantined: int
    bytes: int
    units_per_second: float | None
    seconds_left: float | None
    finished: bool
    listed: ListedInputs | None
    drivers: Sequence[Marker] = ()
    last_recorded: float | None = None

    @property
    def is_running(self) -> bool:
        """Whether a driver is known to be at work."""
        return any(marker.is_alive for marker in self.drivers)

    def activity(self) -> str:
        """Say whether a driver is at work, as far as it can be known, and when the latest shard was recorded."""
        doing = describe_drivers(self.drivers)
        if self.last_recorded is None:
            return f"{doing}; no shard is recorded yet"
        return f"{doing}; the latest shard was recorded {duration(max(0.0, time.time() - self.last_recorded))} ago"

    def resume_command(self) -> str:
        """Return the command that began the run, which resumes it."""
        return resume_command(self.run, self.output)

    def __repr__(self) -> str:
        state = "" if self.finished else f"; {self.activity()}"
        return f"<Status of {self.run.fingerprint['head']} in {self.output}: {self.describe()}{state}>"

    def describe(self) -> str:
        """Return the counts in one line: 40 rows, 2 quarantined."""
        counts = f"{counted(self.rows, 'row')}, {count(self.quarantined)} quarantined"
        shards = f"{count(self.shards_done)} of {counted(self.plan.shards, 'shard')}, not finished"
        return counts if self.finished else f"{counts}, {shards}"


def status(output: Store) -> Status:
    """Return the status of the run in OUTPUT. UsageError without one, DamagedRecord for a file that cannot be read."""
    run = read_run(output)
    receipts = committed_receipts(output, run.run)
    plan = Plan(segments=read_segments(output))  # after the receipts, whose shards it has
    check_plan(output, run.run, plan, {receipt.shard for receipt in receipts})
    units_done = sum(receipt.units for receipt in receipts)
    rate = _rate(receipts)
    return Status(
        run=run,
        output=output.uri,
        plan=plan,
        shards_done=len(receipts),
        rows=sum(receipt.rows for receipt in receipts),
        quarantined=sum(receipt.quarantined - receipt.replaced for receipt in receipts),
        bytes=sum(receipt.bytes for receipt in receipts),
        units_per_second=rate,
        seconds_left=(plan.units - units_done) / rate if plan.units is not None and rate else None,
        finished=len(receipts) == plan.shards > 0 and MANIFEST in output.keys(MANIFEST),
        listed=read_listing(output),
        drivers=[marker for _, marker in read_markers(output, run.run)],
        last_recorded=max((receipt.received_at for receipt in receipts), default=0.0) or None,
    )


def check_other_records(output: Store, known: Status) -> None:
    """Raise DamagedRecord for files of `_run/` that cannot be read, and that `status` does not read."""
    check_plan_files(output, known.plan.segments)
    read_crash_counts(output, known.run.run)
    with suppress(Missing):
        read_manifest(output)


def _rate(receipts: Iterable[Receipt]) -> float | None:
    """Return the units per second of the latest driver after its first shard began to be predicted.

    Several first shards may end at the same time: the interval between receipts alone would be much too short.
    """
    scheduled = sorted((receipt for receipt in receipts if receipt.driver), key=lambda receipt: receipt.received_at)
    own = [receipt for receipt in scheduled if receipt.driver == scheduled[-1].driver]
    if len(own) < 2:
        return None
    began = min(receipt.received_at - receipt.seconds_predict - receipt.seconds_write for receipt in own)
    seconds = own[-1].received_at - began
    return sum(receipt.units for receipt in own) / seconds if seconds > 0 else None
