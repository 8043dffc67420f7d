"""Invariants of an OUTPUT, during a run and at its end, whichever processes were killed."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.report.target import REPORT
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.plan_files import Segment, read_segments
from pipeline.runtime.records.dataset_card import CARD
from pipeline.runtime.records.run_file import read_run
from pipeline.sinks.parts import part_key, quarantine_key, read_footer
from pipeline.storage import Store


def parts(options: RunOptions) -> dict[str, tuple[int, int]]:
    """Return the parts on disk with inode and modification time, which change if a part is rewritten."""
    folder = Path(options.output, "predictions")
    found = {path.name: path.stat() for path in folder.glob("*.parquet")} if folder.exists() else {}
    return {name: (status.st_ino, status.st_mtime_ns) for name, status in found.items()}


def rows(output: Store, folder: str) -> list[dict[str, Any]]:
    """Return all rows of a folder of OUTPUT; every file must be complete."""
    return rows_of(output, output.keys(folder))


def rows_of(output: Store, keys: Iterable[str]) -> list[dict[str, Any]]:
    """Return all rows of these files."""
    return [row for key in keys for row in pq.read_table(io.BytesIO(output.read(key))).to_pylist()]


def ids(options: RunOptions) -> list[str]:
    """Return the sorted ids of all predictions."""
    return sorted(row["id"] for row in rows(Store(options.output), "predictions/"))


def assert_only_committed_parts(output: Store) -> None:
    """Assert that OUTPUT shows complete parts of this plan, each once, and only quarantine that their footers name."""
    names = _listed(output)
    if not names:
        return
    run, segments = read_run(output).run, read_segments(output)
    keys = {shard: part_key(run, shard) for segment in segments for shard in _shards(segment)}
    footers = {shard: read_footer(output, key) for shard, key in keys.items() if key in names}
    assert {(footer.run, footer.shard) for footer in footers.values()} == {(run, shard) for shard in footers}
    assert {footer.plan for footer in footers.values()} <= {file.sha256 for each in segments for file in each.files}
    with_bad = {quarantine_key(run, shard) for shard, footer in footers.items() if footer.quarantined}
    assert names <= {keys[shard] for shard in footers} | with_bad
    # Only the listed parts: other processes may have committed more since.
    predicted = Counter(row["id"] for row in rows_of(output, (keys[shard] for shard in footers)))
    assert predicted.total() == len(predicted) == sum(footer.rows for footer in footers.values())
    assert not predicted.keys() & {row["id"] for row in rows_of(output, names & with_bad)}


def assert_complete(output: Store, good: Collection[str], bad: Collection[str]) -> None:
    """Assert the end state: every good unit predicted once, every bad one quarantined once, counted in the manifest."""
    assert_only_committed_parts(output)
    assert sorted(row["id"] for row in rows(output, "predictions/")) == sorted(good)
    assert sorted(row["id"] for row in rows(output, "quarantine/")) == sorted(bad)
    parts = sum(segment.shards for segment in read_segments(output))
    assert len(list(output.keys("predictions/"))) == parts
    manifest = json.loads(output.read("_run/manifest.json"))
    counts = {"parts": parts, "rows": len(good), "quarantined": len(bad), "units": len(good) + len(bad)}
    assert manifest == manifest | counts


def _shards(segment: Segment) -> range:
    return range(segment.first_shard, segment.first_shard + segment.shards)


def _listed(output: Store) -> set[str]:
    """Return all keys of OUTPUT but for `_run/`, card and report; on disk by listing the folder directly."""
    if not output.uri.startswith("s3://"):
        paths = (path.relative_to(output.uri) for path in Path(output.uri).rglob("*") if path.is_file())
        return {str(path) for path in paths if path.parts[0] not in ("_run", CARD, REPORT)}
    return {key for key in output.keys("") if not key.startswith("_run/") and key not in (CARD, REPORT)}
