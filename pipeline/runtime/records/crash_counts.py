"""Shards that passes lost: how often each has cost its process its life, kept in OUTPUT so that a resume knows."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterable

from pipeline.faultpoints import reached
from pipeline.storage import Store

ATTEMPTS = "_run/attempts/"


def read_crash_counts(output: Store, run: str) -> Counter[int]:
    """How many passes of all drivers of this run lost each shard."""
    lost: Counter[int] = Counter()
    for key in output.keys(ATTEMPTS):
        noted = json.loads(output.read(key))
        if noted["run"] == run:
            lost.update(noted["lost"])
    return lost


def record_crashes(output: Store, run: str, shards: Iterable[int]) -> None:
    """Write down that a pass ended and these shards did not come out of it, as their processes died."""
    noted = {"run": run, "lost": sorted(shards)}
    reached("attempts.before")
    output.put_if_absent(f"{ATTEMPTS}{uuid.uuid4().hex}.json", json.dumps(noted).encode())
    reached("attempts.put")
