"""The interface of a folder in any kind of store, and files read by ranged requests.

Keys are relative to the folder, with `/` between names. They are never parsed as URIs.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

TEMPORARY_PREFIX = "_run/tmp/"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One stored object. `size` in bytes; `version` (ETag, or size and digest) changes with the content."""

    key: str
    size: int
    version: str


class Folder(Protocol):
    """One folder of one kind of store. Raises the errors of its client, which `Store` translates.

    Each request goes through `with_retry` and may be repeated. An object written by an earlier attempt of the same call
    counts as written by the call.
    """

    def entries(self, prefix: str) -> Iterator[Entry]: ...
    def keys(self, prefix: str) -> Iterator[str]: ...
    def read(self, key: str, version: str | None) -> bytes: ...
    def open(self, key: str) -> BinaryIO: ...
    def size(self, key: str) -> int: ...
    def put_if_absent(self, key: str, data: bytes) -> bool: ...
    def put(self, key: str, data: bytes) -> None: ...
    def delete(self, key: str) -> None: ...


class RangedFile(io.RawIOBase):
    """A seekable file of `size` bytes. Each read is one request, `fetch(begin, end)`."""

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size, self._fetch, self._position = size, fetch, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        begin, end = self._position, min(self._size, self._position + len(buffer))
        if end <= begin:
            return 0
        data = self._fetch(begin, end)
        if len(data) != end - begin:
            raise EOFError(f"requested bytes {begin} to {end} of {self._size}, received {len(data)}")
        buffer[: len(data)] = data
        self._position = end
        return len(data)
