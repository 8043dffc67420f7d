"""Files of lines: how they are cut into pieces, and the lines of one piece.

A line belongs to the piece in which it starts, so a plain file is cut by bytes without reading it. A file that is
compressed, or in UTF-16 or UTF-32, is read once when it is planned; its offsets are those of the content in UTF-8.
"""

from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from pipeline.media import BadMedium
from pipeline.sources.source import Piece
from pipeline.sources.text.compressed import skip_to
from pipeline.sources.text.text_file import open_text, text_form
from pipeline.storage import Entry, Store

LINE_PIECE_BYTES = 1 << 18
MAX_LINE_BYTES = 1 << 26
"""Longest line that is read: a file without line breaks would fill the memory."""

UTF8_MARK = b"\xef\xbb\xbf"
_BLOCK = 1 << 20


class Line(NamedTuple):
    """A line.

    Attributes:
        offset: byte at which it starts.
        size: bytes, line break included.
        content: bytes without the line break; an error if the line is too long.
    """

    offset: int
    size: int
    content: bytes | BadMedium


def plan_line_pieces(store: Store, entry: Entry, piece_units: int | None) -> Iterator[Piece]:
    """Yield the pieces of a file of lines, each of about `piece_units` lines at most.

    A plain file has as many lines as the first ones suggest. Raise anything if a compressed file is damaged.
    """
    form = text_form(store, entry.key, entry.version, entry.size)
    if form.is_sequential:
        with open_text(store, entry.key, entry.version, entry.size) as file:
            yield from pieces_of_lines(entry, read_lines(file, 0, None), piece_units)
        return
    line_bytes = len(form.start) / max(1, form.start.count(b"\r" if form.carriage_returns else b"\n"))
    step = LINE_PIECE_BYTES if piece_units is None else max(1, min(LINE_PIECE_BYTES, int(piece_units * line_bytes)))
    for begin in range(0, entry.size, step):
        end = min(begin + step, entry.size)
        yield Piece.of(entry, begin=begin, end=end, about=max(1, round((end - begin) / line_bytes)))


def pieces_of_lines(entry: Entry, lines: Iterable[Line], piece_units: int | None) -> Iterator[Piece]:
    """Yield the pieces of a file whose lines are known."""
    begin = end = count = 0
    for line in lines:
        if count and (line.offset - begin >= LINE_PIECE_BYTES or count == piece_units):
            yield Piece.of(entry, begin=begin, end=line.offset, about=count)
            begin, count = line.offset, 0
        count, end = count + 1, line.offset + max(line.size, 1)
    if count:
        yield Piece.of(entry, begin=begin, end=end, about=count)


def read_lines(file: BinaryIO, begin: int, end: int | None) -> Iterator[Line]:
    """Yield the lines that start at `begin` or later and before `end`; None is the end of the file.

    Contents have no line feed, no carriage return before it, and no byte order mark.
    """
    offset = max(0, begin - 1)
    if begin:
        skip_to(file, offset)
        offset += _skip_line(file, end, offset)
    while end is None or offset < end:
        line = file.readline(MAX_LINE_BYTES)
        if not line:
            return
        size = len(line)
        if size == MAX_LINE_BYTES and not line.endswith(b"\n"):
            size += _skip_line(file, None, offset)
            yield Line(offset, size, BadMedium(f"the line has more than {MAX_LINE_BYTES:,} bytes"))
        else:
            content = line.removesuffix(b"\r\n").removesuffix(b"\n")
            yield Line(offset, size, content.removeprefix(UTF8_MARK) if offset == 0 else content)
        offset += size


def _skip_line(file: BinaryIO, end: int | None, offset: int) -> int:
    """Skip the rest of a line, but not much further than `end`. Return the number of bytes."""
    size = 0
    while end is None or offset + size < end:
        part = file.readline(_BLOCK)
        size += len(part)
        if not part or part.endswith(b"\n"):
            break
    return size


def is_blank(store: Store, entry: Entry, begin: int, blank: bytes) -> bool:
    """Return whether a text holds nothing but the characters in `blank`, from byte `begin` on.

    Such a file gives no record. Only one that begins with 64 KiB of them is read. Raise anything if it is damaged.
    """
    form = text_form(store, entry.key, entry.version, entry.size)
    start = form.start if begin else form.start.removeprefix(UTF8_MARK)
    if start[begin:].strip(blank):
        return False
    if form.is_complete:
        return True
    with open_text(store, entry.key, entry.version, entry.size) as file:
        skip_to(file, max(begin, len(form.start)))
        return not any(block.strip(blank) for block in iter(lambda: file.read(_BLOCK), b""))


def read_all(file: BinaryIO) -> bytes:
    """Return the content of a file without a byte order mark. Raise BadMedium above MAX_LINE_BYTES."""
    data = file.read(MAX_LINE_BYTES + 1)
    if len(data) > MAX_LINE_BYTES:
        raise BadMedium(f"the text has more than {MAX_LINE_BYTES:,} bytes")
    return data.removeprefix(UTF8_MARK)
