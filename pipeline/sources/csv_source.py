"""Tables as .csv and .tsv files, plain or compressed: each row after the header is one unit."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO

import pyarrow as pa

from pipeline.media import BadMedium
from pipeline.sources import line_reader
from pipeline.sources.compressed import open_decompressed, skip_to, with_compression, without_compression
from pipeline.sources.csv_parser import CsvRow, StrayQuote, group_rows, read_rows, row_ends, row_ends_by_parsing
from pipeline.sources.line_reader import MAX_LINE_BYTES
from pipeline.sources.record_reader import Record, RecordReader, RecordRequest
from pipeline.sources.record_source import RecordSource
from pipeline.sources.source import NoMediumColumn, Piece, ignore_damage, missing_column
from pipeline.storage import AccessError, Entry, Store


class CsvReader(RecordReader):
    """Reads rows. The place of a row is its byte offset, `labels.csv#81734`.

    Values are strings; an image is a path. A file is read once when it is planned, because only then is it known which
    line breaks are inside quotes. A compressed file has at most 64 pieces, because each is read from its beginning.
    """

    def pieces(self, store: Store, entry: Entry, request: RecordRequest) -> Iterator[Piece]:
        """Yield ranges of whole rows."""
        for find_ends in (row_ends, row_ends_by_parsing):
            with suppress(StrayQuote), open_decompressed(store, entry.key) as file:
                header = _read_header(file, entry.key)
                if header is None:
                    return
                _check(store.uri_of(entry.key), header, request.medium_columns, NoMediumColumn)
                _check(store.uri_of(entry.key), header, request.columns)
                ends = find_ends(file, header.end, _delimiter(entry.key))
                ranges = group_rows(ends, header.end, line_reader.LINE_PIECE_BYTES, request.options.piece_units)
                yield from [Piece.of(entry, begin=begin, end=end, about=count) for begin, end, count in ranges]
                return

    def records(self, store: Store, piece: Piece, request: RecordRequest) -> Iterator[Record]:  # noqa: ARG002
        """Yield the rows of the piece."""
        with open_decompressed(store, piece.key, piece.version) as file:
            header = _read_header(file, piece.key)
            if header is None:
                return
            begin = max(piece.begin or 0, header.end)
            if piece.end is not None and piece.end - begin > MAX_LINE_BYTES:
                error = BadMedium(f"the row has more than {MAX_LINE_BYTES:,} bytes (is a quote not closed?)")
                yield Record(str(begin), str(piece.end), error)
                return
            skip_to(file, begin, header.end)
            for row in read_rows(file, begin, piece.end, _delimiter(piece.key)):
                yield Record(str(row.begin), str(row.end), _values(header, row))

    def kept(self, store: Store, entry: Entry, request: RecordRequest) -> pa.Schema:
        """Return strings. Raise AccessError if the header lacks one of the columns or has it twice."""
        with ignore_damage(), open_decompressed(store, entry.key) as file:
            if header := _read_header(file, entry.key):
                _check(store.uri_of(entry.key), header, request.options.keep)
        return request.kept_strings


def _read_header(file: BinaryIO, key: str) -> CsvRow | None:
    """Return the first row, after which the file then stands; None if there is none."""
    return next(read_rows(file, 0, None, _delimiter(key)), None)


def _check(uri: str, header: CsvRow, names: Iterable[str], kind: type[AccessError] = AccessError) -> None:
    """Raise AccessError if the header cannot be read, lacks one of the columns or has it twice."""
    if isinstance(header.fields, Exception):
        raise AccessError(f"{uri}: the header cannot be read: {header.fields}")
    available = Counter(header.fields)
    for name in names:
        if name not in available:
            raise missing_column(uri, name, available, kind)
        if available[name] > 1:
            raise AccessError(f"{uri}: {available[name]} columns are named {name!r}; names must be unique")


def _values(header: CsvRow, row: CsvRow) -> dict[str, str] | Exception:
    if isinstance(row.fields, Exception):
        return row.fields
    if isinstance(header.fields, Exception):
        return header.fields
    if len(row.fields) != len(header.fields):
        return BadMedium(f"the row has {len(row.fields)} fields, the header has {len(header.fields)}")
    return dict(zip(header.fields, row.fields, strict=True))


def _delimiter(key: str) -> str:
    return "\t" if without_compression(key).endswith(".tsv") else ","


CSV = RecordSource(
    "csv", with_compression(".csv", ".tsv"), CsvReader(), media=frozenset({"text", "image", "frame_pair"})
)
