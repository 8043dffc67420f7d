"""Committed shards: the parts that OUTPUT lists, held against their receipts and the plan."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

from pipeline.faultpoints import reached
from pipeline.formatting import count, counted
from pipeline.runtime.records.receipts import Receipt, read_receipts, receipt_of
from pipeline.sinks.parts import NotThisPart, parse_part_key, part_key, read_footer
from pipeline.storage import AccessError, Missing, NotRegular, Store

PREDICTIONS = "predictions/"
NAMED = 3  # parts in an error message
THREADS = 16

Digests: TypeAlias = Callable[[int], Collection[str]]
"""Returns the digests of the plan files that the part of a shard may name, none if the plan has no such shard."""


class ListedParts(NamedTuple):
    """Files in predictions/ that a reader of predictions/*.parquet reads.

    stamps: of the parts of a run, by shard. foreign: keys of the parts of other runs. others: keys of files that are no
    parts by their names.
    """

    stamps: dict[int, str]
    foreign: list[str]
    others: list[str]

    @property
    def shards(self) -> Set[int]:
        """Shards of the run that have a part."""
        return self.stamps.keys()


class CheckedParts(NamedTuple):
    """Parts held against receipts and plan.

    receipts: of the parts that belong to the plan, by shard. unrecorded: those of them that had no receipt, or another
    one. wrong: sentences about the files in predictions/ that are no parts of this plan, by key.
    """

    receipts: dict[int, Receipt]
    unrecorded: list[Receipt]
    wrong: dict[str, str]


def list_parts(output: Store, run: str, expected: Collection[int] = ()) -> ListedParts:
    """List the parts in predictions/ afresh. Those of expected shards that a stale listing lacks are looked up."""
    parts = ListedParts({}, [], [])
    for key, stamp in output.stamps(PREDICTIONS):
        part = parse_part_key(key)
        if part is not None and part[0] == run:
            parts.stamps[part[1]] = stamp
        elif part is not None:
            parts.foreign.append(key)
        elif key.endswith(".parquet"):
            parts.others.append(key)
    parts.stamps.update(_found_stamps(output, run, set(expected) - parts.shards))
    return parts


def _found_stamps(output: Store, run: str, shards: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Yield (shard, stamp) of the shards that have a part. AccessError if something else has the name of one."""

    def stamp(shard: int) -> str | None:
        try:
            return output.stamp(part_key(run, shard))
        except NotRegular as error:
            raise AccessError(f"{error}: remove it, then run the command again") from None
        except Missing:
            return None

    wanted = sorted(shards)
    with ThreadPoolExecutor(THREADS) as pool:
        yield from ((shard, found) for shard, found in zip(wanted, pool.map(stamp, wanted), strict=True) if found)


def check_parts(
    output: Store, run: str, listed: ListedParts, receipts: Mapping[int, Receipt], digests: Digests
) -> CheckedParts:
    """Return which of the listed files are parts of the plan. Only parts without a receipt of their stamp are read."""
    known = {
        shard: receipts[shard]
        for shard, stamp in listed.stamps.items()
        if shard in receipts and receipts[shard].stamp == stamp and receipts[shard].plan in digests(shard)
    }
    checked = CheckedParts(known, [], {})
    for keys, why in ((listed.foreign, "a part of another run"), (listed.others, "not a part of this run")):
        checked.wrong.update({key: f"{output.uri_of(key)} is {why}" for key in keys})
    for shard, found in read_receipts_of_parts(output, run, listed.shards - known.keys()):
        key = part_key(run, shard)
        if isinstance(found, NotThisPart):
            checked.wrong[key] = str(found)
        elif found.plan not in digests(shard):
            checked.wrong[key] = f"{output.uri_of(key)} is {'of another plan' if digests(shard) else 'not in the plan'}"
        else:
            checked.receipts[shard] = found
            checked.unrecorded.append(found)
    return checked


def wrong_parts_message(output: Store, wrong: Mapping[str, str]) -> str:
    """Say which files in predictions/ are no parts of the plan."""
    named = list(wrong.values())[:NAMED]
    named += [f"and {count(len(wrong) - NAMED)} more"] if len(wrong) > NAMED else []
    files = "a file that is no part" if len(wrong) == 1 else f"{count(len(wrong))} files that are no parts"
    return f"{output.uri_of(PREDICTIONS)} holds {files} of this run: {'; '.join(named)}"


def has_parts(output: Store, run: str) -> bool:
    """Return whether a run has a part."""
    return next(output.keys(f"{PREDICTIONS}part-{run}-"), None) is not None


def foreign_parts_message(output: Store, foreign: list[str]) -> str:
    """Return the error message about parts of other runs."""
    names = ", ".join(foreign[:NAMED]) + (", …" if len(foreign) > NAMED else "")
    parts, them = counted(len(foreign), "part"), "it" if len(foreign) == 1 else "them"
    return f"{output.uri_of(PREDICTIONS)} holds {parts} of another run ({names}): delete {them}, or use another OUTPUT"


def committed_receipts(output: Store, run: str) -> list[Receipt]:
    """Return the receipts of all committed shards of a run; write nothing.

    Files that were changed since are left to the next resume, which names them.
    """
    recorded = read_receipts(output, run)
    shards = list_parts(output, run, recorded).shards
    known = {shard: recorded[shard] for shard in recorded.keys() & shards}
    found = read_receipts_of_parts(output, run, shards - known.keys())
    return [*known.values(), *(receipt for _, receipt in found if isinstance(receipt, Receipt))]


def read_receipts_of_parts(
    output: Store, run: str, shards: Iterable[int]
) -> Iterator[tuple[int, Receipt | NotThisPart]]:
    """Yield (shard, receipt by the footer of its part, or why the file is not this part). Deleted ones are skipped."""

    def read(shard: int) -> Receipt | NotThisPart | None:
        key = part_key(run, shard)
        try:
            stamp = output.stamp(key)  # before the footer: a part that changes meanwhile gets no stamp that fits
            footer = read_footer(output, key)
            reached("resume.footer-read")
            return receipt_of(footer, size=output.size(key), stamp=stamp)
        except NotThisPart as error:
            return error
        except Missing:
            return None

    wanted = sorted(shards)
    with ThreadPoolExecutor(THREADS) as pool:
        yield from ((shard, found) for shard, found in zip(wanted, pool.map(read, wanted), strict=True) if found)
