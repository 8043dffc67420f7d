"""Inputs of the listing that no segment plans."""

import heapq
from collections.abc import Container, Iterable, Iterator
from itertools import groupby
from operator import itemgetter

from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.plan_files import PlannedInput, Segment, planned_inputs
from pipeline.sources.listing.discovery import Listing
from pipeline.storage import Entry, Reason, StorageError, Store, is_same_version


def unplanned_entries(
    output: Store, plan: Plan, found: Listing, partly: Container[str], *, redo: bool
) -> Iterator[Entry]:
    """Yield the entries that no segment plans, or only partly. Count changed ones, and what is left out of the others.

    Listing and plan are merged in byte order of keys, so neither is held in memory.
    """
    planned = _planned_inputs(output, plan.segments)
    ahead = next(planned, None)
    for entry in _check_order(found.entries):
        key = _bytes(entry.key)
        while ahead is not None and ahead[0] < key:
            ahead = next(planned, None)
        if ahead is None or ahead[0] != key:
            yield entry
        elif not is_same_version(ahead[1].version, entry.version):
            if redo:
                yield entry
            else:
                plan.changed += 1
        elif entry.key in partly:
            yield entry
        else:
            if ahead[1].is_empty:
                found.leave_out(entry.key, Reason.NO_UNITS)
            for members in ahead[1].left_out.values():
                found.leave_out_members(entry.key, members)


def _planned_inputs(output: Store, segments: list[Segment]) -> Iterator[tuple[bytes, PlannedInput]]:
    """Yield (encoded key, input) of every planned input in byte order of keys, as the latest segment has it.

    Members that are left out are those of all segments that planned this version.
    """

    def stream(segment: Segment) -> Iterator[tuple[bytes, int, PlannedInput]]:
        inputs = planned_inputs(output, segment)
        if segment.is_rebuilt:  # in the order of shards, of which the last one has the latest version of an input
            latest_first = list(inputs)[::-1]
            inputs = iter(sorted(latest_first, key=lambda each: _bytes(each.key)))
        return ((_bytes(each.key), -segment.number, each) for each in inputs)

    for key, planned in groupby(heapq.merge(*map(stream, segments)), key=itemgetter(0)):
        latest, *earlier = (each for _, _, each in planned)
        for each in earlier:
            if is_same_version(each.version, latest.version):
                latest.left_out.update(each.left_out)
        yield key, latest


def _check_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the entries; StorageError if they are out of order, because the merge would then plan inputs twice."""
    last = b""
    for entry in entries:
        if (key := _bytes(entry.key)) <= last:
            raise StorageError(
                f"the listing of INPUT repeats keys or is not in their byte order: {entry.key!r} came after "
                f"{last.decode('utf-8', 'surrogateescape')!r}. Nothing was planned: run the command again. A store "
                "that always lists so, such as a directory bucket of S3, cannot be INPUT"
            )
        last = key
        yield entry


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
