"""Rows of comma- or tab-separated values as RFC 4180 writes them: where each ends in its file, and its fields.

A row ends with a line feed outside quotes. Where every quote stands as the RFC has it, counting quotes finds the ends;
else Python's csv module does, as it reads the rows when they are loaded.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import BinaryIO, NamedTuple

import numpy as np

from pipeline.media import BadMedium
from pipeline.sources.line_reader import MAX_LINE_BYTES

MARK = b"\xef\xbb\xbf"
_BLOCK = 1 << 20
_QUOTE, _LINE_FEED = b'"\n'

# The module's own limit, of 0.1 MB a field, belongs to the process: set once and not around each call.
csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))


class CsvRow(NamedTuple):
    """A row from one offset to another, its line break included, and its fields, or why there are none."""

    begin: int
    end: int
    fields: list[str] | Exception


class StrayQuote(Exception):  # noqa: N818  never seen outside
    """A quote inside a field that does not begin with one: counting quotes would go wrong from there on."""


class _Feed:
    """The lines of a file up to an offset, as the csv module takes them; what is no UTF-8 as surrogates."""

    def __init__(self, file: BinaryIO, begin: int, end: int | None) -> None:
        self.file, self.at, self.end = file, begin, end
        self.row = begin
        self.over = False  # whether more was asked for than there is

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self.file.readline(_BLOCK) if self.end is None or self.at < self.end else b""
        if not line:
            self.over = True
            raise StopIteration
        first, parts = self.at, [line]
        self.at += len(line)
        while not line.endswith(b"\n") and (line := self.file.readline(_BLOCK)):
            self.at += len(line)
            if self.at - self.row <= MAX_LINE_BYTES:
                parts.append(line)
        if self.at - self.row > MAX_LINE_BYTES:
            raise BadMedium(f"a record of more than {MAX_LINE_BYTES:,} bytes")
        whole = b"".join(parts)
        return (whole if first else whole.removeprefix(MARK)).decode("utf-8", "surrogateescape")


def rows(file: BinaryIO, begin: int, end: int | None, delimiter: str) -> Iterator[CsvRow]:
    """The rows from an offset, at which the file stands, to another; None is the end of the file. Empty lines are none.

    A row that cannot be read costs itself: reading goes on with the line behind it.
    """
    feed = _Feed(file, begin, end)
    reader = csv.reader(feed, delimiter=delimiter)
    while True:
        feed.row = feed.at
        fields: list[str] | Exception
        try:
            fields = next(reader)
            if feed.over:  # to the csv module the end of the file closes a quote: all behind it would be one field
                fields = BadMedium(f"a quote that is not closed: no row behind byte {feed.row:,} can be told apart")
        except StopIteration:
            return
        except BadMedium as error:
            fields = error
        except csv.Error as error:
            lone = "new-line character" in str(error)  # the module's words end with an advice to programmers
            what = "a carriage return outside quotes, with no line feed behind it" if lone else error
            fields = BadMedium(f"no row that can be read: {what}")
        if fields != []:
            yield CsvRow(feed.row, feed.at, fields)


def ends(file: BinaryIO, begin: int, delimiter: str) -> Iterator[np.ndarray]:
    """int64 offsets behind the rows from an offset, at which the file stands, to its end, empty lines counted too.

    StrayQuote, before any of a block in which one is.
    """
    at, inside, last, before = begin, 0, begin, _LINE_FEED
    while block := file.read(_BLOCK):
        data = np.frombuffer(block, np.uint8)
        quotes, breaks = np.flatnonzero(data == _QUOTE), np.flatnonzero(data == _LINE_FEED)
        _check_opening(np.concatenate([[before], data]), quotes[inside::2], delimiter)
        outside = (np.searchsorted(quotes, breaks) + inside) % 2 == 0
        found = at + breaks[outside] + 1
        last = int(found[-1]) if len(found) else last
        yield found
        at, inside, before = at + len(block), (inside + len(quotes)) % 2, int(data[-1])
    if at > last:  # a last line without a break
        yield np.array([at])


def ends_by_rows(file: BinaryIO, begin: int, delimiter: str) -> Iterator[np.ndarray]:
    """What `ends` gives, of a file with stray quotes; slower, and without the empty lines."""
    found = (row.end for row in rows(file, begin, None, delimiter))
    while len(some := np.fromiter(islice(found, 1 << 14), np.int64)):
        yield some


def ranges(found: Iterable[np.ndarray], begin: int, size: int, units: int | None) -> Iterator[tuple[int, int, int]]:
    """(begin, end, rows) of ranges of about `size` bytes, of at most `units` rows; one too long to be read is alone."""
    count, last = 0, begin
    for block in found:
        at = 0
        while at < len(block):
            is_long = int(block[at]) - last > MAX_LINE_BYTES
            if is_long and count:
                yield begin, last, count
                begin, count = last, 0
            full = at + 1 if is_long else int(np.searchsorted(block, begin + size)) + 1
            left = len(block) if units is None else units - count
            stop = min(max(full, at + 1), len(block), at + left)
            count, last, at = count + stop - at, int(block[stop - 1]), stop
            if is_long or last - begin >= size or count == units:
                yield begin, last, count
                begin, count = last, 0
    if count:
        yield begin, last, count


def _check_opening(data: np.ndarray, opening: np.ndarray, delimiter: str) -> None:
    """StrayQuote unless each quote that opens begins a field, or continues one by a quote of its own. `data` is led by
    the byte before it."""
    if not np.isin(data[opening], [ord(delimiter), _LINE_FEED, _QUOTE]).all():
        raise StrayQuote
