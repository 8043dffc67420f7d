"""Compressed files (.gz, .tgz, .zst): their names, their decompressed content, and the number of their pieces."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import BinaryIO, cast

import pyarrow as pa

from pipeline.sources.open_version import open_planned
from pipeline.storage import Store

DECOMPRESSION_ERRORS = (OSError, EOFError, zlib.error)
"""What decompressors raise for damaged data. StorageError is an OSError too: catch it first."""

MAX_PIECES = 64  # of a compressed file: reading each one starts at the beginning of the file
_SUFFIXES = (".gz", ".zst")
_GZIP_SUFFIXES = (".gz", ".tgz")
_BLOCK = 1 << 20


def with_compression(*extensions: str) -> frozenset[str]:
    """Return the extensions alone and followed by each compression suffix: .csv, .csv.gz, .csv.zst."""
    return frozenset(extension + suffix for extension, suffix in product(extensions, ("", *_SUFFIXES)))


def without_compression(key: str) -> str:
    """Return the key in lower case without its compression suffix."""
    return key.lower().removesuffix(".gz").removesuffix(".zst")


def is_compressed(key: str) -> bool:
    """Return whether the name of a file says that it is compressed."""
    return key.lower().endswith((*_GZIP_SUFFIXES, *_SUFFIXES))


@contextmanager
def open_decompressed(store: Store, key: str, version: str | None = None) -> Iterator[BinaryIO]:
    """Open a file, decompressing it if its name says that it is compressed.

    If `version` is given, raise Missing or Changed unless the file still has that version.
    """
    with store.open(key) if version is None else open_planned(store, key, version) as file:
        if key.lower().endswith(_GZIP_SUFFIXES):
            # The buffer makes short steps back cheap: gzip would start again at the beginning.
            yield cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file)), _BLOCK))
        elif key.lower().endswith(".zst"):
            yield cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd"), _BLOCK))
        else:
            yield file


def skip_to(file: BinaryIO, offset: int, position: int = 0) -> None:
    """Move a file from `position` forward to `offset`, by reading if it is compressed and cannot seek."""
    if file.seekable():
        file.seek(offset)
        return
    remaining = offset - position
    while remaining:
        remaining -= len(file.read(min(remaining, _BLOCK))) or remaining  # a truncated file ends early


def merge_ranges(ranges: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Merge consecutive ranges (begin, end, units) of a compressed file into at most MAX_PIECES."""
    each = -(-len(ranges) // MAX_PIECES) or 1
    groups = [ranges[at : at + each] for at in range(0, len(ranges), each)]
    return [(group[0][0], group[-1][1], sum(units for *_, units in group)) for group in groups]
