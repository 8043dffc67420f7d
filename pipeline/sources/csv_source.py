"""Tables as .csv and .tsv files, plain or compressed: a row below the header is one unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from pipeline.media import BadMedium
from pipeline.sources import line_reader
from pipeline.sources.compressed import (
    DECOMPRESSION_ERRORS,
    is_compressed,
    merge_ranges,
    open_decompressed,
    skip_to,
    with_compression,
    without_compression,
)
from pipeline.sources.csv_parser import CsvRow, StrayQuote, ends, ends_by_rows, ranges, rows
from pipeline.sources.line_reader import MAX_LINE_BYTES
from pipeline.sources.record_source import Record, RecordSource, missing_column
from pipeline.sources.source import Piece
from pipeline.storage import AccessError, Entry, StorageError, Store


@dataclass(frozen=True)
class Csv(RecordSource):
    """Reads rows; the id is the key and the row's place in bytes, `labels.csv#81734`.

    Values are strings, a path where a picture is meant. A file is read once when it is planned: only then is it known
    which line breaks are inside quotes. A compressed one is at most 64 pieces, for each is read from its beginning.
    """

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Ranges of whole rows. AccessError where the header lacks a column. A compressed file that cannot be read to
        its end is one unit, whose error says so when it is loaded."""
        try:
            header = _header(store, entry)
            found = [] if header is None else self._ranges(store, entry, header)
        except StorageError:
            raise
        except DECOMPRESSION_ERRORS:
            yield Piece(key=entry.key, version=entry.version, size=entry.size, units=1)
            return
        if not found:
            yield Piece(key=entry.key, version=entry.version, size=entry.size, begin=0, end=0, units=0)
        for begin, end, count in found:
            yield Piece(key=entry.key, version=entry.version, size=entry.size, begin=begin, end=end, about=count)

    def records(self, store: Store, piece: Piece, names: tuple[str, ...]) -> Iterator[Record]:  # noqa: ARG002
        """The rows of a piece by the names in the file's header."""
        if piece.begin == piece.end:  # of a file without rows: none
            return
        with open_decompressed(store, piece.key, piece.version) as file:
            header = _read_header(file, piece.key)
            if header is None:
                return
            begin = max(piece.begin or 0, header.end)
            if piece.end is not None and piece.end - begin > MAX_LINE_BYTES:
                error = BadMedium(f"a record of more than {MAX_LINE_BYTES:,} bytes (a quote that is not closed?)")
                yield Record(str(begin), str(piece.end), error)
                return
            skip_to(file, begin, header.end)
            for row in rows(file, begin, piece.end, _delimiter(piece.key)):
                yield Record(str(row.begin), str(row.end), _columns(header, row))

    def require(self, store: Store, entry: Entry, names: Iterable[str]) -> None:
        """AccessError where the header lacks one of the columns or has it twice; nothing where none can be read."""
        try:
            header = _header(store, entry)
        except StorageError:
            raise
        except DECOMPRESSION_ERRORS:
            return
        if header is not None:
            _check(store.uri_of(entry.key), header, names)

    def _ranges(self, store: Store, entry: Entry, header: CsvRow) -> list[tuple[int, int, int]]:
        """(begin, end, rows) of each piece."""
        _check(store.uri_of(entry.key), header, self.wanted)
        try:
            found = self._scan(store, entry, by_rows=False)
        except StrayQuote:
            found = self._scan(store, entry, by_rows=True)
        return merge_ranges(found) if is_compressed(entry.key) else found

    def _scan(self, store: Store, entry: Entry, *, by_rows: bool) -> list[tuple[int, int, int]]:
        with open_decompressed(store, entry.key) as file:
            header = _read_header(file, entry.key)
            assert header is not None
            scan = (ends_by_rows if by_rows else ends)(file, header.end, _delimiter(entry.key))
            return list(ranges(scan, header.end, line_reader.LINE_PIECE_BYTES, self.options.piece_units))


def _header(store: Store, entry: Entry) -> CsvRow | None:
    with open_decompressed(store, entry.key) as file:
        return _read_header(file, entry.key)


def _read_header(file: BinaryIO, key: str) -> CsvRow | None:
    """The first row of a file, behind which the file then stands; None where there is none."""
    return next(rows(file, 0, None, _delimiter(key)), None)


def _check(uri: str, header: CsvRow, names: Iterable[str]) -> None:
    """AccessError where the header cannot be read, lacks one of the columns, or has it twice."""
    if isinstance(header.fields, Exception):
        raise AccessError(f"{uri}: no header of a table: {header.fields}")
    there = Counter(header.fields)
    for name in names:
        if name not in there:
            raise missing_column(uri, name, there)
        if there[name] > 1:
            raise AccessError(f"{uri}: {there[name]} columns are called {name!r}")


def _columns(header: CsvRow, row: CsvRow) -> dict[str, str] | Exception:
    if isinstance(row.fields, Exception):
        return row.fields
    if isinstance(header.fields, Exception):
        return header.fields
    if len(row.fields) != len(header.fields):
        return BadMedium(f"a row of {len(row.fields)} fields, the header has {len(header.fields)}")
    return dict(zip(header.fields, row.fields, strict=True))


def _delimiter(key: str) -> str:
    return "\t" if without_compression(key).endswith(".tsv") else ","


CSV = Csv("csv", with_compression(".csv", ".tsv"), frozenset({"text", "image", "frame_pair"}))
