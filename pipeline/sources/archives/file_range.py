"""A range of a stored file, read like a file of its own: a member of a tar archive that is not compressed."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple, cast

from pipeline.storage import Store


class FileRange(NamedTuple):
    """Where the range is in its file, in bytes."""

    begin: int
    size: int


@contextmanager
def open_range(store: Store, key: str, version: str, size: int, part: FileRange) -> Iterator[BinaryIO]:
    """Open a range of a file of the planned version and size."""
    with store.open(key, version=version, size=size) as file:
        yield cast(BinaryIO, _RangeReader(file, part))


class _RangeReader(io.RawIOBase):
    """Reads a range of an open file."""

    def __init__(self, file: BinaryIO, part: FileRange) -> None:
        self._file, self._range, self._position = file, part, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._range.size}[whence]
        if base + offset < 0:
            raise ValueError(f"position {base + offset} is before the beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        length = max(0, min(len(buffer), self._range.size - self._position))
        self._file.seek(self._range.begin + self._position)
        data = self._file.read(length)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
