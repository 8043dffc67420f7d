"""The marker in the head of a report: tells it from another file, and an up-to-date report from an earlier one."""

import hashlib
import json

from pipeline.runtime.driver.status import Status
from pipeline.runtime.records.listing import ListedInputs
from pipeline.runtime.records.manifest import Summary
from pipeline.storage import Missing, Store

MARKER = "perceiver-pipeline report"
_HEAD_BYTES = 512  # in which the marker stands


def marker_of(known: Status) -> str:
    """Return the marker of a report about a run of this status; it tells finished runs apart by what was counted."""
    if not known.finished or known.listed is None:
        return f"{MARKER}, run {known.run.run}"
    counts = known.rows, known.quarantined, known.bytes
    return _finished(known.run.run, len(known.plan.segments), known.plan.shards, *counts, listed=known.listed)


def marker_after(summary: Summary) -> str:
    """Return the marker of a report about a run that ended with this summary."""
    counts = summary.rows, summary.quarantined, summary.bytes
    return _finished(summary.run, summary.segments, summary.shards, *counts, listed=summary.listed)


def read_marked(store: Store, key: str, marker: str = MARKER) -> str | None:
    """Return the beginning of a page with its marker; None if there is no such file, "" if it is another file."""
    try:
        head = store.read_start(key, _HEAD_BYTES) if store.size(key) else b""
    except Missing:
        return None
    return head.decode(errors="replace") if marker.encode() in head else ""


def _finished(run: str, *counts: int, listed: ListedInputs) -> str:
    state = [*counts, listed.digest, listed.totals()]
    return f"{MARKER}, run {run}, state {hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]}"
