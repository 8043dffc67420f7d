"""Crash counts of shards, stored in OUTPUT so that a resumed run starts with them."""

import json
import uuid
from collections import Counter
from collections.abc import Iterable

from pipeline.faultpoints import reached
from pipeline.sinks.run_records import read_record
from pipeline.storage import Store

ATTEMPTS = "_run/attempts/"


def read_crash_counts(output: Store, run: str) -> Counter[int]:
    """Return in how many passes, of all drivers of this run, each shard crashed its worker."""
    crashes: Counter[int] = Counter()
    for key in output.keys(ATTEMPTS):
        recorded, lost = read_record(output, key, _parse)
        if recorded == run:
            crashes.update(lost)
    return crashes


def _parse(data: bytes) -> tuple[str, list[int]]:
    record = json.loads(data)
    return record["run"], [int(shard) for shard in record["lost"]]


def record_crashes(output: Store, run: str, shards: Iterable[int]) -> None:
    """Store the shards that crashed their worker in one pass."""
    record = {"run": run, "lost": sorted(shards)}
    reached("attempts.before")
    output.put_if_absent(f"{ATTEMPTS}{uuid.uuid4().hex}.json", json.dumps(record).encode())
    reached("attempts.put")
