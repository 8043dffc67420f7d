"""Files of lines: where a large one is cut when planned, and the lines of one piece when it is loaded.

A line belongs to the piece in which it starts, so that a plain file is cut by bytes without being read. A compressed
one (.gz, .zst) is read once when it is planned; its offsets are those of its content.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise, product
from typing import BinaryIO, NamedTuple, cast

import pyarrow as pa

from pipeline.media import BadMedium
from pipeline.sources.open_version import open_planned
from pipeline.sources.source import Piece
from pipeline.storage import Entry, StorageError, Store

PIECE_BYTES = 1 << 18
LINE_BYTES = 1 << 10  # of a line, for a guess at how many there are
MAX_LINE = 1 << 26
"""Bytes of the longest line that is read: a file without line breaks would fill the memory that others need."""

COMPRESSED = (".gz", ".zst")
_GZIP = (".gz", ".tgz")
DAMAGE = (OSError, EOFError, zlib.error)
"""What decompressors raise. A StorageError is one of them, but no damage."""

MOST_PIECES = 64  # of a compressed file: each is read from the file's beginning
_BLOCK = 1 << 20


class Line(NamedTuple):
    """A line: where it starts, its bytes with the line break, and its content without; None where it is too long."""

    offset: int
    size: int
    content: bytes | None


def packed(*extensions: str) -> frozenset[str]:
    """Extensions of files plain and compressed."""
    return frozenset(extension + packed for extension, packed in product(extensions, ("", *COMPRESSED)))


def unpacked(key: str) -> str:
    """The name of a file in lower case, without the extension that says it is compressed."""
    return key.lower().removesuffix(".gz").removesuffix(".zst")


def is_compressed(key: str) -> bool:
    """Whether a file is compressed, by its name."""
    return key.lower().endswith((*_GZIP, *COMPRESSED))


def cut(store: Store, entry: Entry) -> Iterator[Piece]:
    """Pieces of a file of lines. A compressed one that cannot be read to its end is one unit, without a range."""
    if not is_compressed(entry.key):
        yield from cut_plain(entry)
        return
    try:
        pieces = list(cut_compressed(store, entry))
    except StorageError:
        raise
    except DAMAGE:
        pieces = [Piece(key=entry.key, version=entry.version, size=entry.size, units=1)]
    yield from pieces


def cut_plain(entry: Entry) -> Iterator[Piece]:
    """Pieces of a plain file, which is not read: how many lines each holds is known when it is loaded."""
    for begin in range(0, max(1, entry.size), PIECE_BYTES):
        end = min(entry.size, begin + PIECE_BYTES)
        yield _piece(entry, begin, end)


def cut_compressed(store: Store, entry: Entry) -> Iterator[Piece]:
    """Pieces of a compressed file, which is read whole for it. Raises what reading raises."""
    begins, end = [0], 0
    with opened(store, entry.key) as file:
        for line in lines(file, 0, None):
            if line.offset - begins[-1] >= PIECE_BYTES:
                begins.append(line.offset)
            end = line.offset + line.size
    each = -(-len(begins) // MOST_PIECES)
    for begin, stop in pairwise([*begins[::each], end]):
        yield _piece(entry, begin, stop)


def _piece(entry: Entry, begin: int, end: int) -> Piece:
    """Of the lines that start in a range of a file."""
    piece = Piece(key=entry.key, version=entry.version, size=entry.size, begin=begin, end=end)
    return replace(piece, about=max(1, (end - begin) // LINE_BYTES)) if end > begin else replace(piece, units=0)


def fewer(found: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Ranges (begin, end, units) of a compressed file that follow one another, joined so that there are few."""
    each = -(-len(found) // MOST_PIECES) or 1
    groups = [found[at : at + each] for at in range(0, len(found), each)]
    return [(some[0][0], some[-1][1], sum(units for *_, units in some)) for some in groups]


def lines(file: BinaryIO, begin: int, end: int | None) -> Iterator[Line]:
    """The lines that start at `begin` or later and before `end`; None is the end of the file.

    Lines end with a line feed, which is left out with a carriage return before it; so is a byte order mark.
    """
    offset = begin
    if begin:
        offset = begin - 1
        advance(file, offset)
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


def advance(file: BinaryIO, offset: int, at: int = 0) -> None:
    """Go to an offset of a file that is `at` a place before it, uncompressed where it cannot be sought."""
    if file.seekable():
        file.seek(offset)
        return
    left = offset - at
    while left:
        left -= len(file.read(min(left, _BLOCK))) or left  # the end comes early where the file is cut short


def read_all(file: BinaryIO) -> bytes:
    """The rest of a file, of which no more than MAX_LINE bytes are read; BadMedium where there are more."""
    data = file.read(MAX_LINE + 1)
    if len(data) > MAX_LINE:
        raise BadMedium(f"more than {MAX_LINE:,} bytes in one text")
    return data


@contextmanager
def opened(store: Store, key: str, version: str | None = None) -> Iterator[BinaryIO]:
    """The content of a file, uncompressed; Missing or Changed where it is no longer the planned version."""
    with store.open(key) if version is None else open_planned(store, key, version) as file:
        if key.lower().endswith(_GZIP):
            # Behind a buffer, a short step back is not a way from the beginning.
            yield cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file)), _BLOCK))
        elif key.lower().endswith(".zst"):
            yield cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd"), _BLOCK))
        else:
            yield file
