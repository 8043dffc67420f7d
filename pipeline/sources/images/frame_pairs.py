"""Video frames stored as image files in a folder: each frame and the next one are a pair."""

import heapq
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.media import BadMedium, FramePair
from pipeline.sources.images.image_sequence import SequenceEntry
from pipeline.storage import AccessError, Entry, LeaveOut, Reason

_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True, kw_only=True)
class FramePairEntry(Entry):
    """Two frames as one entry. The key is that of the first; `version` joins both versions, `size` adds both sizes.

    Attributes:
        other: key of the second frame.
        number: index of the first frame in its folder.
    """

    other: str
    number: int


def in_pairs(entries: Iterator[Entry], is_frame: Callable[[Entry], bool], leave_out: LeaveOut) -> Iterator[Entry]:
    """Merge the frames of a listing into pairs of neighbours in one folder; yield other files unchanged, sequences too.

    A folder's only frame is left out. Both streams are in byte order of keys. Raise AccessError if the names of a
    folder's frames do not sort by their numbers: frame10 would come before frame2.
    """
    last: dict[str, tuple[Entry, int]] = {}  # latest frame and its number, of the nested folders the listing is in
    ready: list[tuple[bytes, Entry]] = []

    def end_folder(name: str) -> None:
        frame, number = last.pop(name)
        if number == 0:
            leave_out(frame.key, Reason.SINGLE_FRAME)

    for entry in entries:
        folder = entry.key.rpartition("/")[0]
        for other in [other for other in last if other and not entry.key.startswith(f"{other}/")]:
            end_folder(other)
        if isinstance(entry, SequenceEntry) or not is_frame(entry):
            heapq.heappush(ready, (entry.key.encode(), entry))
        else:
            number = 0
            if folder in last:
                pair = _pair(*last[folder], entry)
                heapq.heappush(ready, (pair.key.encode(), pair))
                number = pair.number + 1
            last[folder] = entry, number
        # Entries before every frame that still waits for its second one are in order.
        first = min((waiting.key.encode() for waiting, _ in last.values()), default=None)
        while ready and (first is None or ready[0][0] < first):
            yield heapq.heappop(ready)[1]
    for folder in list(last):
        end_folder(folder)
    while ready:
        yield heapq.heappop(ready)[1]


def pair_of(first: np.ndarray, second: np.ndarray, *, number: int) -> FramePair:
    """Return a pair of two images uint8 [H, W, 3] of one size, without times."""
    if first.shape != second.shape:
        sizes = [f"{height} by {width}" for height, width, _ in (first.shape, second.shape)]
        raise BadMedium(f"the frames of a pair must have one size, got {' and '.join(sizes)} pixels")
    return FramePair(frames=np.stack([first, second]), frame_index=number, start_seconds=None)


def _pair(first: Entry, number: int, second: Entry) -> FramePairEntry:
    if _natural(second.key) < _natural(first.key):
        raise AccessError(
            f"{second.key} follows {first.key} by name, but its number is lower: name frames with leading "
            "zeros, or give a table with two columns"
        )
    version, size = f"{first.version}+{second.version}", first.size + second.size
    return FramePairEntry(key=first.key, size=size, version=version, other=second.key, number=number)


def _natural(key: str) -> list[tuple[int, str]]:
    """Return a sort key that compares numbers in a file name by their value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBERS.split(key.rpartition("/")[2])]
