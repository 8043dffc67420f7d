"""Compressed files (.gz, .tgz, .zst): their names, their decompressed content, and the number of their pieces."""

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO, cast

import pyarrow as pa

from pipeline.sources.source import Piece
from pipeline.storage import Store

MAX_PIECES = 64  # of a compressed file: reading each one starts at the beginning of the file
_SUFFIXES = (".gz", ".zst")
_GZIP_SUFFIXES = (".gz", ".tgz")
_BLOCK = 1 << 20


def with_compression(*extensions: str) -> frozenset[str]:
    """Return the extensions alone and followed by each compression suffix: .csv, .csv.gz, .csv.zst."""
    return frozenset(extension + suffix for extension in extensions for suffix in ("", *_SUFFIXES))


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
    with store.open(key, version=version) as file:
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


def merge_pieces(pieces: list[Piece]) -> list[Piece]:
    """Merge consecutive pieces of a compressed file into at most MAX_PIECES."""
    if len(pieces) <= MAX_PIECES:
        return pieces
    each = -(-len(pieces) // MAX_PIECES)
    groups = [pieces[at : at + each] for at in range(0, len(pieces), each)]
    return [replace(group[0], end=group[-1].end, about=sum(piece.about or 0 for piece in group)) for group in groups]
