"""Rows of comma- or tab-separated values as in RFC 4180: where each one ends in its file, and its fields.

A row ends with a line feed outside quotes. If every quote stands as the RFC requires, counting quotes finds the ends;
otherwise Python's csv module finds them, as it does when the rows are read.
"""

import csv
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from pipeline.media import BadMedium
from pipeline.sources.line_reader import MAX_LINE_BYTES, UTF8_MARK

_BLOCK = 1 << 20
_QUOTE, _LINE_FEED = b'"\n'

# The csv module's limit of 0.1 MB per field belongs to the process: set once, not around each call.
csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))


class CsvRow(NamedTuple):
    """A row between two byte offsets, line break included, and its fields; an exception if they cannot be read."""

    begin: int
    end: int
    fields: list[str] | Exception


class StrayQuote(Exception):  # noqa: N818  caught by the caller, never shown
    """A quote inside a field that does not begin with one: counting quotes would be wrong from there on."""


class _LineFeed:
    """Lines of a file up to an offset, for the csv module. Bytes that are not UTF-8 become surrogates."""

    def __init__(self, file: BinaryIO, begin: int, end: int | None) -> None:
        self.file, self.position, self.end = file, begin, end
        self.row_begin = begin
        self.exhausted = False

    def read_line(self) -> str:
        """Return the next line; "" at the end."""
        line = self.file.readline(_BLOCK) if self.end is None or self.position < self.end else b""
        if not line:
            self.exhausted = True
            return ""
        begin, parts = self.position, [line]
        self.position += len(line)
        while not line.endswith(b"\n") and (line := self.file.readline(_BLOCK)):
            self.position += len(line)
            if self.position - self.row_begin <= MAX_LINE_BYTES:
                parts.append(line)
        if self.position - self.row_begin > MAX_LINE_BYTES:
            raise BadMedium(f"the row has more than {MAX_LINE_BYTES:,} bytes")
        whole = b"".join(parts)
        return (whole if begin else whole.removeprefix(UTF8_MARK)).decode("utf-8", "surrogateescape")


def read_rows(file: BinaryIO, begin: int, end: int | None, delimiter: str) -> Iterator[CsvRow]:
    """Yield the rows from `begin`, at which the file stands, to `end`; None is the end of the file.

    Empty lines are skipped. A row that cannot be read does not affect the rows after it.
    """
    feed = _LineFeed(file, begin, end)
    reader = csv.reader(iter(feed.read_line, ""), delimiter=delimiter)
    while True:
        feed.row_begin = feed.position
        fields: list[str] | Exception
        try:
            fields = next(reader)
            if feed.exhausted:  # the csv module lets the end of the file close a quote: the rest would be one field
                fields = BadMedium(f"a quote is not closed: rows after byte {feed.row_begin:,} cannot be separated")
        except StopIteration:
            return
        except BadMedium as error:
            fields = error
        except csv.Error as error:
            is_return = "new-line character" in str(error)  # the module's text ends with advice to programmers
            reason = "a carriage return outside quotes without a line feed after it" if is_return else error
            fields = BadMedium(f"the row cannot be read: {reason}")
        if fields != []:
            yield CsvRow(feed.row_begin, feed.position, fields)


def row_ends(file: BinaryIO, begin: int, delimiter: str) -> Iterator[int]:
    """Yield the offsets at which rows end, from `begin`, at which the file stands; empty lines count as rows.

    Raise StrayQuote before the offsets of a block that contains one.
    """
    position, inside, last, before = begin, 0, begin, _LINE_FEED
    while block := file.read(_BLOCK):
        data = np.frombuffer(block, np.uint8)
        quotes, breaks = np.flatnonzero(data == _QUOTE), np.flatnonzero(data == _LINE_FEED)
        # Each quote that opens a field must begin it, or follow a quote that closed it.
        previous = np.concatenate([[before], data])[quotes[inside::2]]
        if not np.isin(previous, [ord(delimiter), _LINE_FEED, _QUOTE]).all():
            raise StrayQuote
        outside = (np.searchsorted(quotes, breaks) + inside) % 2 == 0
        ends = (position + breaks[outside] + 1).tolist()
        yield from ends
        last = ends[-1] if ends else last
        position, inside, before = position + len(block), (inside + len(quotes)) % 2, int(data[-1])
    if position > last:  # a last line without a line break
        yield position


def row_ends_by_parsing(file: BinaryIO, begin: int, delimiter: str) -> Iterator[int]:
    """Yield what `row_ends` yields, for files with stray quotes: slower, and without empty lines."""
    return (row.end for row in read_rows(file, begin, None, delimiter))


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
