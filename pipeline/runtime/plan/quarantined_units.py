"""Units without a row: quarantined by committed parts, and not predicted or quarantined again by a committed retry."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pyarrow as pa

from pipeline.runtime.plan.plan_files import Segment, planned_rows, read_segments, retried_files
from pipeline.runtime.records.committed import THREADS, committed_receipts
from pipeline.runtime.records.origins import Origins
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
    segments = read_segments(output) if shards else []
    found = footers_without_retried(output, run, segments, {receipt.shard for receipt in receipts}, shards)
    units = [asdict(unit) for footer, _ in found for unit in footer.quarantined]
    return pa.Table.from_pylist(units, schema=QUARANTINE_SCHEMA)


def retried_shards(output: Store, segments: Sequence[Segment], committed: Collection[int]) -> set[int]:
    """Return the shards that quarantined units which committed retries read again."""
    return set(_retried_keys(output, segments, committed))


def footers_without_retried(
    output: Store, run: Run, segments: Sequence[Segment], committed: Collection[int], shards: Sequence[int]
) -> Iterator[tuple[Footer, int]]:
    """Yield the footers of these shards without the quarantined units that committed retries read again, and the number
    of these."""
    retried = _retried_keys(output, segments, committed) if shards else {}
    keys = _planned_keys(output, segments, retried.keys() & set(shards))
    origins = Origins.of(run)

    def is_retried(shard: int, unit: Quarantined) -> bool:
        """Return whether the unit comes from a file that was retried; if it may be any of its shard, all were."""
        return shard in keys and origins.key_of(unit, keys[shard]) in {None, *retried[shard]}

    def without_retried(shard: int) -> tuple[Footer, int]:
        footer = read_footer(output, part_key(run.run, shard))
        units = tuple(unit for unit in footer.quarantined if not is_retried(shard, unit))
        return replace(footer, quarantined=units), len(footer.quarantined) - len(units)

    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(without_retried, shards)


def _retried_keys(output: Store, segments: Sequence[Segment], committed: Collection[int]) -> Mapping[int, set[str]]:
    """Return the keys of the inputs that committed retries planned again, by the shard that quarantined their units."""
    retried: dict[int, set[str]] = defaultdict(set)
    for retry, shard, key in retried_files(output, segments):
        if retry in committed:
            retried[shard].add(key)
    return retried


def _planned_keys(output: Store, segments: Sequence[Segment], shards: Collection[int]) -> Mapping[int, set[str]]:
    """Return the keys of the files that these shards read."""
    rows = planned_rows(output, segments, shards, ["pieces"]) if shards else ()
    return {shard: {piece["key"] for piece in row["pieces"]} for shard, row in rows}
