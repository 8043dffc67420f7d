"""Frames that lie in a folder one by one: each with the one that follows it is a pair."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.media import BadMedium, FramePair
from pipeline.storage import AccessError, Entry

_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True, kw_only=True)
class FramePairEntry(Entry):
    """Two frames as one entry, under the first one's key; `version` is both versions, `size` both sizes.

    other: the second one's key. number: of the first in its folder.
    """

    other: str
    number: int

    def planned(self) -> dict[str, Any]:
        """What a piece takes of it."""
        return {"key": self.key, "version": self.version, "size": self.size, "other": self.other}


@dataclass(frozen=True)
class _Last:
    """The last frame of a folder so far, and its number."""

    entry: Entry
    number: int


def in_pairs(entries: Iterator[Entry], is_frame: Callable[[str], bool]) -> Iterator[Entry]:
    """A listing in byte order of keys, its frames in pairs of neighbours of one folder, other files as they are; in
    byte order too.

    AccessError where the names of a folder's frames do not sort as their numbers do: frame10 would come before frame2.
    """
    last: dict[str, _Last] = {}  # of the folders that the listing is in, which hold one another
    ready: list[tuple[bytes, Entry]] = []
    for entry in entries:
        folder = entry.key.rpartition("/")[0]
        for other in [other for other in last if other and not entry.key.startswith(f"{other}/")]:
            del last[other]
        if not is_frame(entry.key):
            heapq.heappush(ready, (entry.key.encode(), entry))
        else:
            if folder in last:
                pair = _pair(last[folder], entry)
                heapq.heappush(ready, (pair.key.encode(), pair))
            last[folder] = _Last(entry, last[folder].number + 1 if folder in last else 0)
        # What comes before every frame that still waits for its second is in order.
        first = min((one.entry.key.encode() for one in last.values()), default=None)
        while ready and (first is None or ready[0][0] < first):
            yield heapq.heappop(ready)[1]
    while ready:
        yield heapq.heappop(ready)[1]


def pair_of(first: np.ndarray, second: np.ndarray, *, number: int) -> FramePair:
    """The medium of two pictures uint8 [H, W, 3] of one size, without times."""
    if first.shape != second.shape:
        sizes = [f"{height} by {width}" for height, width, _ in (first.shape, second.shape)]
        raise BadMedium(f"the frames of a pair must have one size, these have {' and '.join(sizes)} pixels")
    return FramePair(frames=np.stack([first, second]), frame_index=number, start_seconds=None)


def _pair(first: _Last, second: Entry) -> FramePairEntry:
    one = first.entry
    if _natural(second.key) < _natural(one.key):
        raise AccessError(
            f"{second.key} sorts behind {one.key} by its name and before it by its number: name frames with leading "
            "zeros, or give a table with two columns"
        )
    version, size = f"{one.version}+{second.version}", one.size + second.size
    return FramePairEntry(key=one.key, size=size, version=version, other=second.key, number=first.number)


def _natural(key: str) -> list[tuple[int, str]]:
    """Sorts numbers in a name by their value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBERS.split(key.rpartition("/")[2])]
