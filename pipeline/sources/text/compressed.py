"""Compressed files, recognised by their first bytes or else by their names: their content and their pieces."""

import bz2
import gzip
import io
import lzma
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import BinaryIO, cast

import pyarrow as pa

from pipeline.sources.source import Piece
from pipeline.storage import Store

MAX_PIECES = 64  # of a compressed file: reading each one starts at the beginning of the file
_SUFFIXES = (".gz", ".zst", ".bz2", ".xz")
_COMPRESSIONS = {".gz": "gzip", ".tgz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}
_SIGNATURES = {
    "gzip": rb"\x1f\x8b\x08",
    "zstd": rb"\x28\xb5\x2f\xfd",
    "bzip2": rb"BZh[1-9](1AY&SY|\x17rE8P\x90)",
    "xz": rb"\xfd7zXZ\0",
}
_SIGNATURE_BYTES = 16
_BLOCK = 1 << 20


def with_compression(*extensions: str) -> frozenset[str]:
    """Return the extensions alone and followed by each compression suffix: .csv, .csv.gz, .csv.zst."""
    return frozenset(extension + suffix for extension in extensions for suffix in ("", *_SUFFIXES))


def without_compression(key: str) -> str:
    """Return the key in lower case without its compression suffix."""
    name = key.lower()
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)


def compression_by_name(key: str) -> str | None:
    """Return the compression that the name of a file says."""
    return next((name for suffix, name in _COMPRESSIONS.items() if key.lower().endswith(suffix)), None)


def compression_of(file: BinaryIO, key: str) -> str | None:
    """Return the compression of an open file by its first bytes, else by its name; None if it is not compressed.

    The file stands at its beginning, before and after.
    """
    start = file.read(_SIGNATURE_BYTES)
    file.seek(0)
    return compression_by_content(start) or compression_by_name(key)


def compression_by_content(start: bytes) -> str | None:
    """Return the compression that the first bytes of a file say."""
    return next((name for name, signature in _SIGNATURES.items() if re.match(signature, start)), None)


@contextmanager
def open_decompressed(store: Store, key: str, version: str, size: int) -> Iterator[BinaryIO]:
    """Open a file, decompressing it if it is compressed.

    Raises Missing, Changed or Corrupt unless it has this version and size.
    """
    with store.open(key, version=version, size=size) as file:
        yield decompressed(file, compression_of(file, key))


def decompressed(file: BinaryIO, compression: str | None) -> BinaryIO:
    """Return the content of an open file that is compressed so; the file itself if it is not. All of them can seek."""
    raw: object
    match compression:
        case "gzip":
            raw = gzip.GzipFile(fileobj=file)
        case "bzip2":
            raw = bz2.BZ2File(file)
        case "xz":
            raw = lzma.LZMAFile(file)  # noqa: SIM115  it holds nothing of its own
        case "zstd":
            raw = _ZstdFile(file)
        case _:
            return file
    # The buffer makes short steps back cheap: a decompressor would start again at the beginning.
    return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, raw), _BLOCK))


class _ZstdFile(io.RawIOBase):
    """The content of a zstd file. A step back starts again at the beginning."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._restart()

    def _restart(self) -> None:
        self._file.seek(0)
        self._stream = pa.CompressedInputStream(pa.PythonFile(self._file, "r"), "zstd")
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the size of the content is not known")
        target = offset + (self._position if whence == io.SEEK_CUR else 0)
        if target < self._position:
            self._restart()
        while self._position < target and (data := self._stream.read(min(target - self._position, _BLOCK))):
            self._position += len(data)
        return self._position


def skip_to(file: BinaryIO, offset: int, position: int = 0) -> None:
    """Move a file from `position` forward to `offset`, by reading if it cannot seek."""
    if file.seekable():
        file.seek(offset)
        return
    remaining = offset - position
    while remaining:
        remaining -= len(file.read(min(remaining, _BLOCK))) or remaining  # a truncated file ends early


def merge_pieces(pieces: list[Piece]) -> list[Piece]:
    """Merge consecutive pieces of a compressed file into at most MAX_PIECES."""
    if len(pieces) <= MAX_PIECES:
        return pieces
    each = -(-len(pieces) // MAX_PIECES)
    groups = [pieces[at : at + each] for at in range(0, len(pieces), each)]
    return [reduce(Piece.joined, group) for group in groups]
