"""The format of files whose names do not tell, by their first bytes."""

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache

from pipeline.sources.listing.file_signatures import input_format
from pipeline.sources.text.compressed import compression_by_content, decompressed
from pipeline.storage import AccessError, Denied, Entry, LeaveOut, Missing, Reason, StorageError, Store

_START_BYTES = 1 << 14
_THREADS = 16  # files whose first bytes are read at a time: it waits for the store
_AHEAD = 256
_COMPRESSED_FORMATS = frozenset({"webdataset", "jsonl"})  # the others are read only if they are not compressed


@dataclass(frozen=True, kw_only=True)
class ContentEntry(Entry):
    """A listed file whose `--input-format` its content tells."""

    input_format: str


def with_content_formats(
    store: Store, entries: Iterator[Entry], is_unknown: Callable[[str], bool], leave_out: LeaveOut | None = None
) -> Iterator[Entry]:
    """Yield the entries in order, files with unknown names as a `ContentEntry` if their first bytes tell the format.

    is_unknown: whether the name of a key does not tell. Only these files are read, several at a time. leave_out: called
    instead for those that are denied or gone; without it they are yielded as they are.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        ahead: deque[tuple[Entry, Future[Entry | Reason] | None]] = deque()

        def first() -> Iterator[Entry]:
            entry, future = ahead.popleft()
            found = entry if future is None else future.result()
            if not isinstance(found, Reason):
                yield found
            elif leave_out is None:
                yield entry
            else:
                leave_out(entry.key, found)

        try:
            for entry in entries:
                ahead.append((entry, pool.submit(_recognised, store, entry) if is_unknown(entry.key) else None))
                while ahead and (ahead[0][1] is None or len(ahead) >= _AHEAD):
                    yield from first()
            while ahead:
                yield from first()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _recognised(store: Store, entry: Entry) -> Entry | Reason:
    """Return the entry with its format, as it is if the content does not tell, or why it cannot be read."""
    try:
        name = content_format(store, entry.key, entry.version) if entry.size else None
    except Denied:
        return Reason.UNREADABLE
    except Missing:
        return Reason.DELETED
    return entry if name is None else ContentEntry(**asdict(entry), input_format=name)


@lru_cache(maxsize=1 << 14)
def content_format(store: Store, key: str, version: str) -> str | None:  # noqa: ARG001  a version is read once
    """Return the `--input-format` of a file that is not empty by its first bytes; None if they do not tell.

    One request, and a few more for a compressed file. Raise what the store raises.
    """
    start = store.read_start(key, _START_BYTES)
    if (compression := compression_by_content(start)) is None:
        return _format_of(start)
    try:
        with store.open(key) as file:
            name = _format_of(decompressed(file, compression).read(_START_BYTES))
    except (AccessError, StorageError):
        raise
    except Exception:  # noqa: BLE001  decompressors raise anything
        return None
    return name if name in _COMPRESSED_FORMATS else None


def _format_of(start: bytes) -> str | None:
    return input_format(start) or ("jsonl" if _begins_with_record(start) else None)


def _begins_with_record(start: bytes) -> bool:
    """Return whether the first line of a text is a JSON object."""
    line, ends, _ = start.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    if not line.startswith(b"{") or not (ends or len(start) < _START_BYTES):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
