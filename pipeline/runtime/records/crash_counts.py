"""Crash counts of shards, stored in OUTPUT so that a resumed run starts with them."""

import json
import uuid
from collections import Counter
from collections.abc import Iterable

from pipeline.faultpoints import reached
from pipeline.storage import Store

ATTEMPTS = "_run/attempts/"


def read_crash_counts(output: Store, run: str) -> Counter[int]:
    """Return in how many passes, of all drivers of this run, each shard crashed its worker."""
    crashes: Counter[int] = Counter()
    for key in output.keys(ATTEMPTS):
        record = json.loads(output.read(key))
        if record["run"] == run:
            crashes.update(record["lost"])
    return crashes


def record_crashes(output: Store, run: str, shards: Iterable[int]) -> None:
    """Store the shards that crashed their worker in one pass."""
    record = {"run": run, "lost": sorted(shards)}
    reached("attempts.before")
    output.put_if_absent(f"{ATTEMPTS}{uuid.uuid4().hex}.json", json.dumps(record).encode())
    reached("attempts.put")
