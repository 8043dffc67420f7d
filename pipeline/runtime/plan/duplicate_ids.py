"""Check that ids from an id column are unique, so that rows can be joined by them."""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

from pipeline.sources import Listing, Source
from pipeline.storage import AccessError, Entry

THREADS = 8
_SHOWN = 3


def check_unique_ids(source: Source, found: Listing) -> None:
    """Raise AccessError, with ids and files, if two units of INPUT have the same id.

    Each id is read once and kept as eight bytes of its digest: 100 million ids take 0.8 GB. The ids themselves are read
    again only if two digests are equal.
    """
    entries = list(found.entries)

    def hashes(entry: Entry) -> np.ndarray:
        return np.fromiter(map(_hash, source.ids(found.store, entry)), np.uint64)

    with ThreadPoolExecutor(THREADS) as pool:
        seen = np.concatenate([np.zeros(0, np.uint64), *pool.map(hashes, entries)])
    seen.sort()
    suspected = set(seen[1:][seen[1:] == seen[:-1]].tolist())
    if suspected:
        ids = ((unit_id, entry.key) for entry in entries for unit_id in source.ids(found.store, entry))
        if duplicates := list(islice(_describe_duplicates(ids, suspected), _SHOWN)):
            raise AccessError(
                f"{found.store.uri}: the id column gives one id to several units: {'; '.join(duplicates)}"
            )


def _describe_duplicates(ids: Iterable[tuple[str, str]], suspected: set[int]) -> Iterator[str]:
    """Describe each repeated id among (id, key) pairs; `suspected`: digests that occur more than once."""
    first: dict[str, str] = {}
    for unit_id, key in ids:
        if _hash(unit_id) in suspected:
            if unit_id in first:
                yield f"{unit_id!r} in {first[unit_id]} and {key}"
            first.setdefault(unit_id, key)


def _hash(unit_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(unit_id.encode("utf-8", "surrogatepass"), digest_size=8).digest())
