"""How far a run is, from what lies in OUTPUT: no cluster is asked, and nothing is written."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pipeline.runtime.plan.plan_files import read_segments, sum_if_known
from pipeline.runtime.records.committed import committed_shards, receipts_from_footers, recorded_receipts
from pipeline.runtime.records.manifest import MANIFEST
from pipeline.runtime.records.receipts import Receipt
from pipeline.runtime.records.run_file import read_run
from pipeline.storage import Store


@dataclass(frozen=True, kw_only=True)
class Status:
    """A run at this moment. `units` is None where only opening the inputs tells.

    `finished`: the manifest of all these shards is there. `units_per_second` of the last driver, None before its second
    shard; `seconds_left` at that pace, whether or not a driver is at work.
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
    """The status of a run's OUTPUT; UsageError where there is no run."""
    run = read_run(output)
    segments = read_segments(output)
    shards, units = sum(segment.shards for segment in segments), sum_if_known(segment.units for segment in segments)
    done = committed_shards(output, run.run)
    heard = recorded_receipts(output, run.run, done)
    known = [*heard.values(), *receipts_from_footers(output, run.run, done - heard.keys(), heal=False)]
    units_done = sum(receipt.units for receipt in known)
    rate = _rate(heard.values())
    return Status(
        run=run.run,
        task=run.fingerprint["head"],
        input=run.input,
        output=output.uri,
        segments=len(segments),
        shards=shards,
        shards_done=len(done),
        units=units,
        rows=sum(receipt.rows for receipt in known),
        quarantined=sum(receipt.quarantined - receipt.replaced for receipt in known),
        bytes=sum(receipt.bytes for receipt in known),
        units_per_second=rate,
        seconds_left=(units - units_done) / rate if units is not None and rate else None,
        finished=bool(shards) and len(done) == shards and MANIFEST in output.keys(MANIFEST),
    )


def _rate(heard: Collection[Receipt]) -> float | None:
    """Units a second of the driver that was heard of last, from its first shard to its last."""
    scheduled = [receipt for receipt in heard if receipt.driver]
    if not scheduled:
        return None
    driver = max(scheduled, key=lambda receipt: receipt.received_at).driver
    own = sorted(
        (receipt for receipt in scheduled if receipt.driver == driver), key=lambda receipt: receipt.received_at
    )
    seconds = own[-1].received_at - own[0].received_at
    return sum(receipt.units for receipt in own[1:]) / seconds if seconds > 0 else None
