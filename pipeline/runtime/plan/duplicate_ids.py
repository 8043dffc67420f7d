"""Ids that a table gives its units: no two may be equal, or rows could not be joined by them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

from pipeline.sources import Listing, Source
from pipeline.storage import AccessError, Entry

THREADS = 8
_SHOWN = 3


def check_unique_ids(source: Source, found: Listing) -> None:
    """AccessError, naming them and their files, where two units of INPUT have one id.

    Every id is read once, and kept as eight bytes of its digest: a hundred million of them take 0.8 GB. Where two
    digests are equal the ids themselves are read again.
    """
    entries = list(found.entries)

    def hashes(entry: Entry) -> np.ndarray:
        return np.fromiter((_hash(unit_id) for unit_id in source.ids(found.store, entry)), np.uint64)

    with ThreadPoolExecutor(THREADS) as pool:
        seen = np.concatenate([np.zeros(0, np.uint64), *pool.map(hashes, entries)])
    seen.sort()
    suspected = set(seen[1:][seen[1:] == seen[:-1]].tolist())
    if suspected:
        twice = list(islice(_describe_duplicates(lambda: _ids_with_keys(source, found, entries), suspected), _SHOWN))
        if twice:
            raise AccessError(f"{found.store.uri}: the id column gives one id to several units: {'; '.join(twice)}")


def _ids_with_keys(source: Source, found: Listing, entries: list[Entry]) -> Iterator[tuple[str, str]]:
    """(id, key) of every unit."""
    return ((unit_id, entry.key) for entry in entries for unit_id in source.ids(found.store, entry))


def _describe_duplicates(ids: Callable[[], Iterator[tuple[str, str]]], suspected: set[int]) -> Iterator[str]:
    """In words, the ids among the suspected that stand twice."""
    first: dict[str, str] = {}
    for unit_id, key in ids():
        if _hash(unit_id) not in suspected:
            continue
        if unit_id in first:
            yield f"{unit_id!r} in {first[unit_id]} and {key}"
        first.setdefault(unit_id, key)


def _hash(unit_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(unit_id.encode("utf-8", "surrogatepass"), digest_size=8).digest())
