"""Files of lines: where a large one is cut when planned, and the lines of one piece when it is loaded.

A line belongs to the piece in which it starts, so that a plain file is cut by bytes without being read. A compressed
one (.gz, .zst) is read once when it is planned; its offsets are those of its content.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import BinaryIO, NamedTuple

from pipeline.media import BadMedium
from pipeline.sources.compressed import DECOMPRESSION_ERRORS, MAX_PIECES, is_compressed, open_decompressed, skip_to
from pipeline.sources.source import Piece
from pipeline.storage import Entry, StorageError, Store

LINE_PIECE_BYTES = 1 << 18
LINE_BYTES = 1 << 10  # of a line, for a guess at how many there are
MAX_LINE_BYTES = 1 << 26
"""Bytes of the longest line that is read: a file without line breaks would fill the memory that others need."""

_BLOCK = 1 << 20


class Line(NamedTuple):
    """A line: where it starts, its bytes with the line break, and its content without; None where it is too long."""

    offset: int
    size: int
    content: bytes | None


def plan_line_pieces(store: Store, entry: Entry) -> Iterator[Piece]:
    """Pieces of a file of lines. A compressed one that cannot be read to its end is one unit, without a range."""
    if not is_compressed(entry.key):
        yield from _plan_plain(entry)
        return
    try:
        pieces = list(_plan_compressed(store, entry))
    except StorageError:
        raise
    except DECOMPRESSION_ERRORS:
        pieces = [Piece(key=entry.key, version=entry.version, size=entry.size, units=1)]
    yield from pieces


def _plan_plain(entry: Entry) -> Iterator[Piece]:
    """Pieces of a plain file, which is not read: how many lines each holds is known when it is loaded."""
    for begin in range(0, max(1, entry.size), LINE_PIECE_BYTES):
        end = min(entry.size, begin + LINE_PIECE_BYTES)
        yield _piece(entry, begin, end)


def _plan_compressed(store: Store, entry: Entry) -> Iterator[Piece]:
    """Pieces of a compressed file, which is read whole for it. Raises what reading raises."""
    begins, end = [0], 0
    with open_decompressed(store, entry.key) as file:
        for line in read_lines(file, 0, None):
            if line.offset - begins[-1] >= LINE_PIECE_BYTES:
                begins.append(line.offset)
            end = line.offset + line.size
    each = -(-len(begins) // MAX_PIECES)
    for begin, stop in pairwise([*begins[::each], end]):
        yield _piece(entry, begin, stop)


def _piece(entry: Entry, begin: int, end: int) -> Piece:
    """Of the lines that start in a range of a file."""
    piece = Piece(key=entry.key, version=entry.version, size=entry.size, begin=begin, end=end)
    return replace(piece, about=max(1, (end - begin) // LINE_BYTES)) if end > begin else replace(piece, units=0)


def read_lines(file: BinaryIO, begin: int, end: int | None) -> Iterator[Line]:
    """The lines that start at `begin` or later and before `end`; None is the end of the file.

    Lines end with a line feed, which is left out with a carriage return before it; so is a byte order mark.
    """
    offset = begin
    if begin:
        offset = begin - 1
        skip_to(file, offset)
        offset += _rest(file, end, offset)
    while end is None or offset < end:
        line = file.readline(MAX_LINE_BYTES)
        if not line:
            return
        size = len(line)
        if size == MAX_LINE_BYTES and not line.endswith(b"\n"):
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


def read_all(file: BinaryIO) -> bytes:
    """The rest of a file, of which no more than MAX_LINE_BYTES bytes are read; BadMedium where there are more."""
    data = file.read(MAX_LINE_BYTES + 1)
    if len(data) > MAX_LINE_BYTES:
        raise BadMedium(f"more than {MAX_LINE_BYTES:,} bytes in one text")
    return data
