"""Files of lines: where a large one is cut when planned, and the lines of one piece when it is loaded.

A line belongs to the piece in which it starts, so that a plain file is cut by bytes without being read. A compressed
one (.gz, .zst) is read once when it is planned; its offsets are those of its content.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import BinaryIO, NamedTuple, cast

import pyarrow as pa

from pipeline.sources.base import Piece
from pipeline.storage import Changed, Entry, Missing, Store

PIECE_BYTES = 1 << 18
MAX_LINE = 1 << 26
"""Bytes of the longest line that is read: a file without line breaks would fill the memory that others need."""

COMPRESSED = (".gz", ".zst")
MOST_PIECES = 64  # of a compressed file: each is read from the file's beginning
_BLOCK = 1 << 20


class Line(NamedTuple):
    """A line: where it starts, its bytes with the line break, and its content without; None where it is too long."""

    offset: int
    size: int
    content: bytes | None


def is_compressed(key: str) -> bool:
    """Whether a file is compressed, by its name."""
    return key.lower().endswith(COMPRESSED)


def cut_plain(entry: Entry) -> Iterator[Piece]:
    """Pieces of a plain file, which is not read: how many lines each holds is known when it is loaded."""
    for begin in range(0, max(1, entry.size), PIECE_BYTES):
        end = min(entry.size, begin + PIECE_BYTES)
        units = None if entry.size else 0
        yield Piece(key=entry.key, version=entry.version, size=entry.size, begin=begin, end=end, units=units)


def cut_compressed(store: Store, entry: Entry) -> Iterator[Piece]:
    """Pieces of a compressed file, which is read whole for it. Raises what reading raises."""
    begins, end = [0], 0
    with opened(store, entry.key) as file:
        for line in lines(file, 0, None):
            if line.offset - begins[-1] >= PIECE_BYTES:
                begins.append(line.offset)
            end = line.offset + line.size
    each = -(-len(begins) // MOST_PIECES)
    units = None if end else 0
    for begin, stop in pairwise([*begins[::each], end]):
        yield Piece(key=entry.key, version=entry.version, size=entry.size, begin=begin, end=stop, units=units)


def lines(file: BinaryIO, begin: int, end: int | None) -> Iterator[Line]:
    """The lines that start at `begin` or later and before `end`; None is the end of the file.

    Lines end with a line feed, which is left out with a carriage return before it; so is a byte order mark.
    """
    offset = begin
    if begin:
        offset = begin - 1
        _advance(file, offset)
        offset += _rest(file, end, offset)
    while end is None or offset < end:
        line = file.readline(MAX_LINE)
        if not line:
            return
        size = len(line)
        if size == MAX_LINE and not line.endswith(b"\n"):
            size += _rest(file, None, offset)
            yield Line(offset, size, None)
        else:
            yield Line(offset, size, _content(line, offset))
        offset += size


def _content(line: bytes, offset: int) -> bytes:
    if line.endswith(b"\n"):
        line = line[:-2] if line.endswith(b"\r\n") else line[:-1]
    return line.removeprefix(b"\xef\xbb\xbf") if offset == 0 else line


def _rest(file: BinaryIO, end: int | None, offset: int) -> int:
    """Bytes up to the end of the line, read and dropped; no further than it takes to see that it ends behind `end`."""
    size = 0
    while end is None or offset + size < end:
        part = file.readline(_BLOCK)
        size += len(part)
        if not part or part.endswith(b"\n"):
            break
    return size


def _advance(file: BinaryIO, offset: int) -> None:
    if file.seekable():
        file.seek(offset)
        return
    while offset:
        offset -= len(file.read(min(offset, _BLOCK))) or offset  # the end comes early where the file is cut short


@contextmanager
def opened(store: Store, key: str, version: str | None = None) -> Iterator[BinaryIO]:
    """The content of a file, uncompressed; Missing or Changed where it is no longer the planned version."""
    if version is not None:
        found = next((entry for entry in store.entries(key) if entry.key == key), None)
        if found is None:
            raise Missing(f"{store.uri_of(key)} is gone since it was planned")
        if found.version != version:
            raise Changed(f"{store.uri_of(key)} is now {found.version}, not {version}")
    with store.open(key) as file:
        if key.lower().endswith(".gz"):
            yield cast(BinaryIO, gzip.GzipFile(fileobj=file))
        elif key.lower().endswith(".zst"):
            yield cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd"), _BLOCK))
        else:
            yield file
