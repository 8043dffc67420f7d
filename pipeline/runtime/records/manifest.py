"""The summary of a finished run, returned to its caller and stored in OUTPUT as manifest.json."""

import json
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.faultpoints import reached
from pipeline.runtime.records.listing import ListedInputs
from pipeline.runtime.records.receipts import Receipt
from pipeline.sinks.ownership import OutputLost, check_owner
from pipeline.sinks.run_records import read_record
from pipeline.storage import Missing, Store

MANIFEST = "_run/manifest.json"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A finished run. `bytes`: of all parts; `changed`: inputs that changed since they were planned and were not
    predicted again; `listed`: counts of the latest listing of INPUT; `resumed`: shards done before this driver;
    `seconds`: duration of this driver."""

    run: str
    output: str
    segments: int
    shards: int
    units: int
    rows: int
    quarantined: int
    bytes: int
    changed: int
    listed: ListedInputs
    resumed: int
    seconds: float


def read_manifest(output: Store) -> dict[str, Any]:
    """Read manifest.json. Raises Missing and DamagedRecord."""
    return read_record(output, MANIFEST, lambda data: dict(json.loads(data)))


def put_manifest(output: Store, summary: Summary, receipts: Collection[Receipt]) -> None:
    """Write manifest.json, which says that every planned shard is committed. A run of a later segment replaces it.

    Raises OutputLost if OUTPUT now belongs to another run.
    """
    totals = {name: getattr(summary, name) for name in ("run", "segments", "units", "rows", "quarantined", "bytes")}
    seconds = {
        stage: round(sum(getattr(receipt, f"seconds_{stage}") for receipt in receipts), 3)
        for stage in ("load", "predict", "write")
    }
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = totals | {"parts": summary.shards, "inputs": summary.listed.totals(), "seconds": seconds}
    manifest["finished"] = finished
    check_owner(output, summary.run)
    reached("manifest.before")
    output.put(MANIFEST, json.dumps(manifest, indent=1).encode())
    reached("manifest.put")
    try:
        check_owner(output, summary.run)
    except OutputLost:
        with suppress(Missing):
            if read_manifest(output)["run"] == summary.run:  # and not one that replaced it
                output.delete(MANIFEST)
        raise
