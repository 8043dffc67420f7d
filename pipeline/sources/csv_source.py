"""Tables as .csv and .tsv files, plain or compressed: each row after the header is one unit."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO

import pyarrow as pa

from pipeline.media import BadMedium
from pipeline.sources.record_source import RecordSource
from pipeline.sources.records.record_reader import Record, RecordReader, RecordRequest
from pipeline.sources.source import (
    ColumnMismatch,
    NoMediumColumn,
    Piece,
    SourceOptions,
    ignore_damage,
    missing_column,
)
from pipeline.sources.text import line_reader
from pipeline.sources.text.compressed import skip_to, with_compression, without_compression
from pipeline.sources.text.csv_parser import (
    CsvForm,
    CsvRow,
    StrayQuote,
    group_rows,
    read_rows,
    row_ends,
    row_ends_by_parsing,
)
from pipeline.sources.text.line_reader import MAX_LINE_BYTES
from pipeline.sources.text.text_file import open_text, require_plannable_text, require_text, text_form
from pipeline.storage import AccessError, Entry, Store


class CsvReader(RecordReader):
    """Reads rows. The place of a row is its byte offset, `labels.csv#81734`.

    Values are strings; an image is a path. A file is read once when it is planned, because only then is it known which
    line breaks are inside quotes.
    """

    def pieces(self, store: Store, entry: Entry, request: RecordRequest) -> Iterator[Piece]:
        """Yield ranges of whole rows. Raise BadMedium if the file holds no text."""
        require_text(text_form(store, entry.key, entry.version, entry.size))
        form = _form(entry.key, request.options)
        for find_ends in (row_ends, row_ends_by_parsing):
            with suppress(StrayQuote), open_text(store, entry.key, entry.version, entry.size) as file:
                header = _read_header(file, form)
                if header is None:
                    return
                _check(store.uri_of(entry.key), header, request.medium_columns, NoMediumColumn)
                _check(store.uri_of(entry.key), header, request.columns, optional=request.outside)
                if line_reader.is_blank(store, entry, header.end, b"\r\n"):
                    return
                ends = find_ends(file, header.end, form)
                ranges = group_rows(ends, header.end, line_reader.LINE_PIECE_BYTES, request.options.piece_units)
                yield from [Piece.of(entry, begin=begin, end=end, about=count) for begin, end, count in ranges]
                return

    def records(self, store: Store, piece: Piece, request: RecordRequest) -> Iterator[Record]:
        """Yield the rows of the piece."""
        form = _form(piece.key, request.options)
        with open_text(store, piece.key, piece.version, piece.size) as file:
            header = _read_header(file, form)
            if header is None:
                return
            begin = max(piece.begin or 0, header.end)
            if piece.end is not None and piece.end - begin > MAX_LINE_BYTES:
                error = BadMedium(f"the row has more than {MAX_LINE_BYTES:,} bytes (is a quote not closed?)")
                yield Record(str(begin), str(piece.end), error, begin, piece.end)
                return
            skip_to(file, begin, header.end)
            for row in read_rows(file, begin, piece.end, form):
                yield Record(str(row.begin), str(row.end), _values(header, row), row.begin, row.end)

    def kept(self, store: Store, entry: Entry, request: RecordRequest) -> pa.Schema:
        """Return strings. Raise AccessError if the header lacks one of the columns or has it twice."""
        with ignore_damage(), open_text(store, entry.key, entry.version, entry.size) as file:
            require_text(text_form(store, entry.key, entry.version, entry.size))
            if header := _read_header(file, _form(entry.key, request.options)):
                _check(store.uri_of(entry.key), header, request.options.keep, optional=request.outside)
        return request.kept_strings

    def read_whole(self, store: Store, piece: Piece, request: RecordRequest) -> Any:
        """Raise what is wrong with a file that could not be planned."""
        require_plannable_text(store, piece)
        return super().read_whole(store, piece, request)


def _read_header(file: BinaryIO, form: CsvForm) -> CsvRow | None:
    """Return the first row, after which the file then stands; None if there is none."""
    return next(read_rows(file, 0, None, form), None)


def _check(
    uri: str,
    header: CsvRow,
    names: Iterable[str],
    kind: type[ColumnMismatch] = ColumnMismatch,
    optional: Container[str] = (),
) -> None:
    """Raise AccessError if the header cannot be read, lacks one of the columns or has it twice."""
    if isinstance(header.fields, Exception):
        raise AccessError(f"{uri}: the header cannot be read: {header.fields}")
    available = Counter(header.fields)
    for name in names:
        if name not in available and name in optional:
            continue
        if name not in available:
            hint = "; use --csv-quoting double to remove the quotes" if f'"{name}"' in available else ""
            raise kind(f"{missing_column(uri, name, available, kind)}{hint}")
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


def _form(key: str, options: SourceOptions) -> CsvForm:
    """Return how the fields of a file are separated, by its name and `csv_quoting`."""
    is_tsv = without_compression(key).endswith(".tsv")
    quotes = options.csv_quoting == "double" or (options.csv_quoting == "auto" and not is_tsv)
    return CsvForm("\t" if is_tsv else ",", quotes)


CSV = RecordSource(
    "csv", with_compression(".csv", ".tsv"), CsvReader(), media=frozenset({"text", "image", "frame_pair", "clip"})
)
