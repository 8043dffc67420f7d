"""Committed shards: the parts that OUTPUT lists, and the receipt of each."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pipeline.faultpoints import reached
from pipeline.formatting import counted
from pipeline.runtime.records.receipts import Receipt, read_receipts, receipt_of
from pipeline.sinks.parts import parse_part_key, part_key, put_quarantine, read_footer
from pipeline.storage import Store

PREDICTIONS = "predictions/"
NAMED = 3  # parts of another run in an error message
THREADS = 16


class ListedParts(NamedTuple):
    """Parts in predictions/: the shards of a run that have one, and the keys of parts of other runs, which a reader of
    predictions/*.parquet would read as well."""

    shards: set[int]
    foreign: list[str]


def list_parts(output: Store, run: str) -> ListedParts:
    """List the parts in predictions/ afresh."""
    parts = ListedParts(set(), [])
    for key in output.keys(PREDICTIONS):
        part = parse_part_key(key)
        if part is not None and part[0] == run:
            parts.shards.add(part[1])
        elif part is not None:
            parts.foreign.append(key)
    return parts


def foreign_parts_message(output: Store, foreign: list[str]) -> str:
    """Return the error message about parts of other runs."""
    names = ", ".join(foreign[:NAMED]) + (", …" if len(foreign) > NAMED else "")
    parts, them = counted(len(foreign), "part"), "it" if len(foreign) == 1 else "them"
    return f"{output.uri_of(PREDICTIONS)} holds {parts} of another run ({names}): delete {them}, or use another OUTPUT"


def recorded_receipts(output: Store, run: str, shards: set[int]) -> dict[int, Receipt]:
    """Return the receipts of these shards that drivers of the run have stored, by shard."""
    return {shard: receipt for shard, receipt in read_receipts(output, run).items() if shard in shards}


def committed_receipts(output: Store, run: str) -> list[Receipt]:
    """Return the receipts of all committed shards of a run; write nothing."""
    shards = list_parts(output, run).shards
    recorded = recorded_receipts(output, run, shards)
    return [*recorded.values(), *receipts_from_footers(output, run, shards - recorded.keys(), heal=False)]


def receipts_from_footers(output: Store, run: str, shards: Iterable[int], *, heal: bool = True) -> list[Receipt]:
    """Read the receipts of these shards from the footers of their parts.

    heal: write the quarantine parts that killed write tasks did not write.
    """

    def receipt_of_shard(shard: int) -> Receipt:
        key = part_key(run, shard)
        footer = read_footer(output, key)
        reached("resume.footer-read")
        if heal:
            put_quarantine(output, footer)
            reached("resume.healed")
        return receipt_of(footer, size=output.size(key))

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(receipt_of_shard, sorted(shards)))
