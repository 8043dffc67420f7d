"""Units without a row: quarantined by committed parts, and not predicted or quarantined again by a committed retry."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pyarrow as pa

from pipeline.runtime.plan.plan_files import read_plan_file, read_segments
from pipeline.runtime.records.committed import THREADS, committed_receipts
from pipeline.runtime.records.run_file import Run
from pipeline.sinks.parts import QUARANTINE_SCHEMA, Footer, Quarantined, part_key, read_footer
from pipeline.storage import Store


def quarantined_units(output: Store, run: Run, among: Collection[int] | None = None) -> pa.Table:
    """Return the units without a row, with the columns of QUARANTINE_SCHEMA, in the order of shards.

    among: Shards whose units are wanted; None for all.
    """
    receipts = committed_receipts(output, run.run)
    shards = sorted(receipt.shard for receipt in receipts if receipt.quarantined)
    shards = shards if among is None else [shard for shard in shards if shard in among]
    retried = _retried_keys(output, {receipt.shard for receipt in receipts}) if shards else {}

    def footer(shard: int) -> Footer:
        return read_footer(output, part_key(run.run, shard))

    with ThreadPoolExecutor(THREADS) as pool:
        units = [
            asdict(unit)
            for shard, found in zip(shards, pool.map(footer, shards), strict=True)
            for unit in found.quarantined
            if not _is_retried(unit, run, retried.get(shard, frozenset()))
        ]
    return pa.Table.from_pylist(units, schema=QUARANTINE_SCHEMA)


def _retried_keys(output: Store, committed: set[int]) -> Mapping[int, set[str]]:
    """Return the keys of the inputs that committed retries planned again, by the shard that quarantined their units."""
    retried: dict[int, set[str]] = defaultdict(set)
    for segment in read_segments(output):
        for file in segment.files if segment.is_retry else ():
            for row in read_plan_file(output, file.name, file.sha256, ["shard", "pieces", "again"]).to_pylist():
                for piece, origins in zip(row["pieces"], row["again"], strict=True):
                    if row["shard"] in committed:
                        retried[origins[0]].add(piece["key"])
    return retried


def _is_retried(unit: Quarantined, run: Run, keys: set[str] | frozenset[str]) -> bool:
    """Return whether the unit comes from one of the inputs with these keys.

    The units of a run on stored latents have the URIs of other files: a retry plans all of them again.
    """
    options = run.record.get("options") or {}
    if keys and options.get("from_latents"):
        return True
    return any(unit.uri.endswith(f"/{key}") and f"{run.input}/".startswith(unit.uri.removesuffix(key)) for key in keys)
