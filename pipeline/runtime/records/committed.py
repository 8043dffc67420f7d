"""What is done already: the parts that OUTPUT lists, and what is known of each."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pipeline.faultpoints import reached
from pipeline.runtime.records.receipts import Receipt, read_receipts, receipt_of
from pipeline.sinks.parts import parse_part_key, part_key, put_quarantine, read_footer
from pipeline.storage import Store

PREDICTIONS = "predictions/"
NAMED = 3  # parts of another run that an error names
THREADS = 16


class ListedParts(NamedTuple):
    """What lies in predictions/: the shards of a run that have a part, and the keys of parts of other runs, which a
    glob would show among them."""

    shards: set[int]
    foreign: list[str]


def list_parts(output: Store, run: str) -> ListedParts:
    """A fresh listing."""
    there = ListedParts(set(), [])
    for key in output.keys(PREDICTIONS):
        part = parse_part_key(key)
        if part is not None and part[0] == run:
            there.shards.add(part[1])
        elif part is not None:
            there.foreign.append(key)
    return there


def committed_shards(output: Store, run: str) -> set[int]:
    """The shards of this run that have a part; a fresh listing."""
    return list_parts(output, run).shards


def foreign_parts_message(output: Store, foreign: list[str]) -> str:
    """What a person is told of such parts."""
    names = ", ".join(foreign[:NAMED]) + (", …" if len(foreign) > NAMED else "")
    count = "a part" if len(foreign) == 1 else f"{len(foreign):,} parts"
    return f"{output.uri_of(PREDICTIONS)} holds {count} of another run ({names}): delete them, or use another OUTPUT"


def recorded_receipts(output: Store, run: str, shards: set[int]) -> dict[int, Receipt]:
    """The receipts of these shards of a run that its drivers have flushed."""
    return {shard: receipt for shard, receipt in read_receipts(output, run).items() if shard in shards}


def receipts_from_footers(output: Store, run: str, shards: Iterable[int], *, heal: bool = True) -> list[Receipt]:
    """Receipts of parts that no driver wrote down, from their footers.

    `heal`: put the quarantine part that a killed write task may have left out.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(functools.partial(_receipt_from_footer, output, run, heal=heal), sorted(shards)))


def _receipt_from_footer(output: Store, run: str, shard: int, *, heal: bool) -> Receipt:
    key = part_key(run, shard)
    footer = read_footer(output, key)
    reached("resume.footer-read")
    if heal:
        put_quarantine(output, footer)
        reached("resume.healed")
    return receipt_of(footer, size=output.size(key))
