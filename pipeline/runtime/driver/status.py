"""Status of a run, read from OUTPUT alone: needs no cluster and writes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.runtime.plan.plan_files import read_segments, sum_if_known
from pipeline.runtime.records.committed import committed_receipts
from pipeline.runtime.records.manifest import MANIFEST
from pipeline.runtime.records.receipts import Receipt
from pipeline.runtime.records.run_file import read_run
from pipeline.storage import Store


@dataclass(frozen=True, kw_only=True)
class Status:
    """Status of a run. `units` is None if only opening the inputs tells.

    `finished`: all shards are committed and the manifest is written. `units_per_second`: of the latest driver, None
    before its second shard. `seconds_left`: at that rate, whether or not a driver is running.
    """

    run: str
    task: str
    input: str
    output: str
    segments: int
    shards: int
    shards_done: int
    units: int | None
    rows: int
    quarantined: int
    bytes: int
    units_per_second: float | None
    seconds_left: float | None
    finished: bool


def status(output: Store) -> Status:
    """Return the status of the run in OUTPUT; UsageError if there is none."""
    run = read_run(output)
    segments = read_segments(output)
    shards, units = sum(segment.shards for segment in segments), sum_if_known(segment.units for segment in segments)
    receipts = committed_receipts(output, run.run)
    units_done = sum(receipt.units for receipt in receipts)
    rate = _rate(receipts)
    return Status(
        run=run.run,
        task=run.fingerprint["head"],
        input=run.input,
        output=output.uri,
        segments=len(segments),
        shards=shards,
        shards_done=len(receipts),
        units=units,
        rows=sum(receipt.rows for receipt in receipts),
        quarantined=sum(receipt.quarantined - receipt.replaced for receipt in receipts),
        bytes=sum(receipt.bytes for receipt in receipts),
        units_per_second=rate,
        seconds_left=(units - units_done) / rate if units is not None and rate else None,
        finished=bool(shards) and len(receipts) == shards and MANIFEST in output.keys(MANIFEST),
    )


def _rate(receipts: Iterable[Receipt]) -> float | None:
    """Return the units per second of the latest driver, from its first shard to its last."""
    scheduled = [receipt for receipt in receipts if receipt.driver]
    if not scheduled:
        return None
    driver = max(scheduled, key=lambda receipt: receipt.received_at).driver
    own = sorted(
        (receipt for receipt in scheduled if receipt.driver == driver), key=lambda receipt: receipt.received_at
    )
    seconds = own[-1].received_at - own[0].received_at
    return sum(receipt.units for receipt in own[1:]) / seconds if seconds > 0 else None
