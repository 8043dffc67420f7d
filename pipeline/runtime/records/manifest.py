"""What a finished run amounts to, for its caller and for OUTPUT's manifest."""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.faultpoints import reached
from pipeline.runtime.driver.progress import Counts
from pipeline.runtime.plan.planner import Plan
from pipeline.runtime.records.receipts import Receipt
from pipeline.runtime.records.run_file import Run
from pipeline.sinks.ownership import OutputLost, check_owner
from pipeline.storage import Missing, Store

MANIFEST = "_run/manifest.json"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A finished run, all of its parts counted. `bytes` of the parts; `changed`: inputs that were planned in another
    version and left; `resumed`: shards that were done before this driver; `seconds` that this driver took."""

    run: str
    output: str
    segments: int
    shards: int
    units: int
    rows: int
    quarantined: int
    bytes: int
    changed: int
    resumed: int
    seconds: float

    @classmethod
    def of(
        cls, run: Run, output: Store, plan: Plan, counts: Counts, heard: Collection[Receipt], seconds: float
    ) -> Summary:
        """The summary of a run whose shards have all been heard of."""
        return cls(
            run=run.run,
            output=output.uri,
            segments=len(plan.segments),
            shards=plan.shards,
            units=counts.units_done,
            rows=counts.rows,
            quarantined=counts.quarantined,
            bytes=sum(receipt.bytes for receipt in heard),
            changed=plan.changed,
            resumed=counts.start_shards,
            seconds=seconds,
        )


def put_manifest(output: Store, summary: Summary, heard: Collection[Receipt]) -> None:
    """Write manifest.json: the sign that every planned shard is committed. A later segment's run replaces it.

    OutputLost where OUTPUT is another run's.
    """
    totals = {name: getattr(summary, name) for name in ("run", "segments", "units", "rows", "quarantined", "bytes")}
    seconds = {
        stage: round(sum(getattr(receipt, f"seconds_{stage}") for receipt in heard), 3)
        for stage in ("load", "predict", "write")
    }
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = totals | {"parts": summary.shards, "seconds": seconds, "finished": finished}
    check_owner(output, summary.run)
    reached("manifest.before")
    output.put(MANIFEST, json.dumps(manifest, indent=1).encode())
    reached("manifest.put")
    try:
        check_owner(output, summary.run)
    except OutputLost:
        _take_back(output, summary.run)
        raise


def _take_back(output: Store, run: str) -> None:
    """Delete a manifest that this run put into another's OUTPUT, unless that one has put its own over it."""
    with suppress(Missing):
        if json.loads(output.read(MANIFEST))["run"] == run:
            output.delete(MANIFEST)
