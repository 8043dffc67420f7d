"""What is done already: the parts that OUTPUT lists, and what is known of each."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from pipeline.runtime.receipts import Receipt, read_receipts, receipt_of
from pipeline.sinks.parts import part_key, put_quarantine, read_footer, shard_of
from pipeline.storage import Store

PREDICTIONS = "predictions/"
THREADS = 16


def committed(output: Store, run: str) -> set[int]:
    """The shards of this run that have a part; a fresh listing."""
    found = (shard_of(key) for key in output.names(PREDICTIONS))
    return {shard for name, shard in (pair for pair in found if pair is not None) if name == run}


def heard_of(output: Store, shards: set[int]) -> dict[int, Receipt]:
    """The receipts of these shards that drivers have flushed."""
    return {shard: receipt for shard, receipt in read_receipts(output).items() if shard in shards}


def recover(output: Store, run: str, shards: Iterable[int], *, heal: bool = True) -> list[Receipt]:
    """Receipts of parts that no driver wrote down, from their footers.

    `heal`: put the quarantine part that a killed write task may have left out.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(functools.partial(_recover, output, run, heal=heal), sorted(shards)))


def _recover(output: Store, run: str, shard: int, *, heal: bool) -> Receipt:
    key = part_key(run, shard)
    footer = read_footer(output, key)
    if heal:
        put_quarantine(output, footer)
    return receipt_of(footer, size=output.size(key))
