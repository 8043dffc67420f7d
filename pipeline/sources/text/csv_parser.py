"""Rows of comma- or tab-separated values: where each one ends in its file, and its fields.

With quotes, as in RFC 4180, a row ends with a line feed outside quotes. If every quote stands as the RFC requires,
counting quotes finds the ends; otherwise Python's csv module finds them, as it does when the rows are read. Without
quotes, as in IANA's text/tab-separated-values, each line is a row and a quote is a character like any other.
"""

import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from pipeline.media import BadMedium
from pipeline.sources.text.line_reader import MAX_LINE_BYTES, UTF8_MARK

_BLOCK = 1 << 20
_QUOTE, _LINE_FEED = b'"\n'
_SPACES_AFTER_QUOTE = re.compile(r'" +(?=[,\t\r\n]|$)')

# The csv module's limit of 0.1 MB per field belongs to the process: set once, not around each call.
csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))


class CsvForm(NamedTuple):
    """How the fields of a file are separated.

    Attributes:
        delimiter: between fields.
        quotes: whether quotes around a field are not part of it.
    """

    delimiter: str
    quotes: bool = True


class CsvRow(NamedTuple):
    """A row between two byte offsets, line break included, and its fields; an exception if they cannot be read."""

    begin: int
    end: int
    fields: list[str] | Exception


class StrayQuote(Exception):  # noqa: N818  caught by the caller, never shown
    """A quote inside a field that does not begin with one, or that is not closed: counting quotes would be wrong."""


class _Line(NamedTuple):
    """A line of `size` bytes, line break included; without content if it is longer than MAX_LINE_BYTES."""

    content: bytes | None
    size: int


class _RowLines:
    """Lines of a file up to an offset, for the csv module. It keeps the lines of the current row."""

    def __init__(self, file: BinaryIO, begin: int, end: int | None) -> None:
        self._file, self._read_to, self._end = file, begin, end
        self._returned: deque[_Line] = deque()  # lines to be given again
        self.position = begin
        self.begin_row()

    def begin_row(self) -> None:
        """Begin a row at the next line."""
        self.row_begin = self.position
        self.row: list[_Line] = []
        self.is_exhausted = False  # whether the row wanted more lines than there are

    def keep_first_line(self) -> None:
        """End the row after its first line. The others are given again."""
        self._returned.extendleft(reversed(self.row[1:]))
        self.position = self.row_begin + self.row[0].size
        del self.row[1:]

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else self._read_line()
        if not line.size:
            self.is_exhausted = True
            raise StopIteration
        self.row.append(line)
        self.position += line.size
        if line.content is None or self.position - self.row_begin > MAX_LINE_BYTES:
            raise BadMedium(f"the row has more than {MAX_LINE_BYTES:,} bytes")
        return _text(line.content if self.position > line.size else line.content.removeprefix(UTF8_MARK))

    def _read_line(self) -> _Line:
        """Return the next line of the file; one of size 0 at the end."""
        if self._end is not None and self._read_to >= self._end:
            return _Line(b"", 0)
        parts = [self._file.readline(_BLOCK)]
        size = len(parts[0])
        while parts[-1] and not parts[-1].endswith(b"\n"):
            part = self._file.readline(_BLOCK)
            size += len(part)
            if size > MAX_LINE_BYTES:
                parts = [part]  # only its end still matters
            else:
                parts.append(part)
        self._read_to += size
        return _Line(None if size > MAX_LINE_BYTES else b"".join(parts), size)


def read_rows(file: BinaryIO, begin: int, end: int | None, form: CsvForm) -> Iterator[CsvRow]:
    """Yield the rows from `begin`, at which the file stands, to `end`; None is the end of the file.

    Empty lines are skipped. A row that cannot be read does not affect the rows after it. A row whose quote is not
    closed ends with its first line.
    """
    lines = _RowLines(file, begin, end)
    reader = csv.reader(lines, delimiter=form.delimiter, quoting=csv.QUOTE_MINIMAL if form.quotes else csv.QUOTE_NONE)
    while True:
        lines.begin_row()
        fields: list[str] | Exception
        try:
            fields = next(reader)
        except StopIteration:
            return
        except BadMedium as error:
            fields = error
        except csv.Error as error:
            is_return = "new-line character" in str(error)  # the module's text ends with advice to programmers
            reason = "a carriage return outside quotes without a line feed after it" if is_return else error
            fields = BadMedium(f"the row cannot be read: {reason}")
        if lines.is_exhausted or (len(lines.row) > 1 and not _is_closed(lines.row, form)):
            # The csv module would take the lines up to the next quote, or to the end of the file, for one field.
            fields = BadMedium(f"a quote in the row at byte {lines.row_begin:,} is not closed")
            lines.keep_first_line()
        if fields != []:
            yield CsvRow(lines.row_begin, lines.position, fields)


def _is_closed(row: list[_Line], form: CsvForm) -> bool:
    """Return whether each quote that opens a field is closed at the end of the field; spaces may follow it."""
    if any(line.content is None for line in row) or sum(line.size for line in row) > MAX_LINE_BYTES:
        return False
    text = _SPACES_AFTER_QUOTE.sub('"', _text(b"".join(line.content or b"" for line in row)))
    try:
        return len(list(csv.reader(io.StringIO(text, newline="\n"), delimiter=form.delimiter, strict=True))) == 1
    except csv.Error:
        return False


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def row_ends(file: BinaryIO, begin: int, form: CsvForm) -> Iterator[int]:
    """Yield the offsets at which rows end, from `begin`, at which the file stands; empty lines count as rows.

    Raise StrayQuote before the offsets of a block that contains one, and at the end if a quote is not closed.
    """
    position, inside, last, before = begin, 0, begin, _LINE_FEED
    while block := file.read(_BLOCK):
        data = np.frombuffer(block, np.uint8)
        quotes, breaks = np.flatnonzero((data == _QUOTE) & form.quotes), np.flatnonzero(data == _LINE_FEED)
        # Each quote that opens a field must begin it, or follow a quote that closed it.
        previous = np.concatenate([[before], data])[quotes[inside::2]]
        if not np.isin(previous, [ord(form.delimiter), _LINE_FEED, _QUOTE]).all():
            raise StrayQuote
        outside = (np.searchsorted(quotes, breaks) + inside) % 2 == 0
        ends = (position + breaks[outside] + 1).tolist()
        yield from ends
        last = ends[-1] if ends else last
        position, inside, before = position + len(block), (inside + len(quotes)) % 2, int(data[-1])
    if inside:
        raise StrayQuote
    if position > last:  # a last line without a line break
        yield position


def row_ends_by_parsing(file: BinaryIO, begin: int, form: CsvForm) -> Iterator[int]:
    """Yield what `row_ends` yields, for files with stray quotes: slower, and without empty lines."""
    return (row.end for row in read_rows(file, begin, None, form))


def group_rows(ends: Iterator[int], begin: int, size: int, max_rows: int | None) -> Iterator[tuple[int, int, int]]:
    """Yield ranges (begin, end, rows) of about `size` bytes and at most `max_rows` rows.

    A row too long to be read has a range of its own.
    """
    count, last = 0, begin
    for end in ends:
        too_long = end - last > MAX_LINE_BYTES
        if too_long and count:
            yield begin, last, count
            begin, count = last, 0
        count, last = count + 1, end
        if too_long or last - begin >= size or count == max_rows:
            yield begin, last, count
            begin, count = last, 0
    if count:
        yield begin, last, count
