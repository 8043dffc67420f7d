"""What every kind of folder does. Keys are relative, with `/` between names, and are never parsed as URIs."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

TEMPORARY_PREFIX = "_run/tmp/"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One stored object. `size` in bytes; `version`: ETag, or size and digest, changes when the content does."""

    key: str
    size: int
    version: str


class Folder(Protocol):
    """One folder of one kind of store. Raises what its file system raises: `Store` explains it.

    Each request is made `with_retry`, so a method may do its work, or a part of it, several times; what it put in an
    earlier try is its own.
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
    """A seekable file of `size` bytes, each read of which is `fetch(begin, end)`: one ranged request."""

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size, self._fetch, self._at = size, fetch, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        end = min(self._size, self._at + len(buffer))
        if end <= self._at:
            return 0
        data = self._fetch(self._at, end)
        if len(data) != end - self._at:
            raise EOFError(f"asked for bytes {self._at} to {end} of {self._size}, got {len(data)}")
        buffer[: len(data)] = data
        self._at = end
        return len(data)
