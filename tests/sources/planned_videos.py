"""Plan and read the videos of tests, and count the bytes that are read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.media import ClipSpec
from pipeline.sources.source import Piece, SourceOptions, Unit
from pipeline.sources.video_source import VIDEO, VideoSource
from pipeline.storage import StorageError, Store
from tests.sample_videos import number_of

SECONDS, RATE = 2.0, 25
SPEC = ClipSpec(frames=16, fps=25, samples=30_720, sample_rate=48_000, reduce=lambda frame: frame)


def planned(path: Path, store: Store | None = None, **options: Any) -> tuple[VideoSource, Store, list[Piece]]:
    """Return the configured source, the store, and the planned pieces of the file."""
    store = store or Store(str(path.parent))
    source = VIDEO.configured(SourceOptions(**({"medium": "frame_pair"} | options)))
    (entry,) = (entry for entry in store.entries(path.name) if entry.key == path.name)
    return source, store, list(source.pieces(store, entry))


def units(path: Path, **options: Any) -> list[Unit]:
    source, store, pieces = planned(path, **options)
    return [unit for piece in pieces for unit in source.units(store, piece)]


def numbers(unit: Unit) -> tuple[int, int]:
    """Return the numbers that the frames of a pair show."""
    assert unit.error is None, unit.error
    first, second = unit.medium.frames
    return number_of(first), number_of(second)


class Counting(Store):
    """A store that counts the bytes read of its files, and fails after `fail_after` bytes."""

    def __init__(self, uri: str, fail_after: int | None = None) -> None:
        super().__init__(uri)
        self.bytes, self.fail_after = 0, fail_after

    def open(self, key: str, *, version: str | None = None, size: int | None = None) -> BinaryIO:
        return _Counted(super().open(key, version=version, size=size), self)  # type: ignore[return-value]


class _Counted(io.RawIOBase):
    def __init__(self, file: BinaryIO, store: Counting) -> None:
        super().__init__()
        self.file, self.store = file, store

    def read(self, size: int = -1) -> bytes:
        self.store.bytes += size
        if self.store.fail_after is not None and self.store.bytes > self.store.fail_after:
            raise StorageError("connection reset", transient=True)
        return self.file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()
