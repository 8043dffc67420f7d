"""Reads typed tables, whose rows are counted when they are planned. Formats are opened as a `Table`."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from pipeline.media import BadMedium, MediumKind
from pipeline.sources.listing.file_signatures import describe
from pipeline.sources.records.record_reader import Record, RecordReader, RecordRequest, as_text
from pipeline.sources.source import Piece, ignore_damage
from pipeline.sources.tables.arrow_columns import check_columns, check_safe, kept_fields, stored, to_kept, to_value
from pipeline.sources.text.compressed import compression_of
from pipeline.storage import Entry, StorageError, Store

TABLE_PIECE_BYTES = 16 << 20
TABLE_PIECE_ROWS = 4096

_DECODED_BYTES: dict[MediumKind, int] = {"image": 8, "frame_pair": 8}  # per byte of a typical JPEG


class RowGroup(NamedTuple):
    """Rows that are stored together.

    Attributes:
        rows: number of rows.
        size: bytes of the requested columns.
        offset: byte at which the group starts, if it can be read from there.
    """

    rows: int
    size: int
    offset: int | None = None


class Table(Protocol):
    """An open file of one format. Opening it, and its methods, raise anything if it is damaged."""

    schema: pa.Schema

    def row_groups(self, columns: tuple[str, ...]) -> list[RowGroup]:
        """Return the row groups in their order, without reading the rows."""

    def batches(self, piece: Piece, columns: tuple[str, ...]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows of a piece, or to the end of the file, in batches with the number of their first row."""


def rows_of_piece(batches: Iterable[pa.RecordBatch], start: int, piece: Piece) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the rows of a piece from consecutive batches, the first of which begins with the row number `start`."""
    begin = piece.begin or 0
    for batch in batches:
        stop = start + batch.num_rows
        low, high = max(begin, start), stop if piece.end is None else min(piece.end, stop)
        if low < high:
            yield low, batch.slice(low - start, high - low)
        if piece.end is not None and stop >= piece.end:
            return
        start = stop


@dataclass(frozen=True)
class TableReader(RecordReader):
    """Reads rows. The place of a row is its number in the file, `train.parquet#1234`.

    Only the requested columns are read, and never one whose type would run code. Kept columns keep their types. A piece
    lies in one row group, and its number of units is known.

    Attributes:
        kind: of file, in messages: "a Parquet file".
        signatures: first bytes of such a file.
        open_table: opens a file of a given size.
        check: checks the schema of a file.
    """

    kind: str
    signatures: tuple[bytes, ...]
    open_table: Callable[[BinaryIO, int], Table]
    check: Callable[[str, pa.Schema, RecordRequest], None] = check_columns

    def kept(self, store: Store, entry: Entry, request: RecordRequest) -> pa.Schema:
        """Return the kept columns with their types; empty if the file is damaged."""
        fields: list[pa.Field] = []
        with ignore_damage(), store.open(entry.key, version=entry.version, size=entry.size) as file:
            schema = self.open_table(file, entry.size).schema
            self.check(store.uri_of(entry.key), schema, request)
            fields = kept_fields(store.uri_of(entry.key), schema, request)
        return pa.schema(fields)

    def pieces(self, store: Store, entry: Entry, request: RecordRequest) -> Iterator[Piece]:
        """Yield ranges of rows of each row group."""
        with store.open(entry.key, version=entry.version, size=entry.size) as file:
            table = self.open_table(file, entry.size)
            self.check(store.uri_of(entry.key), table.schema, request)
            first = 0
            for group in table.row_groups(request.columns_in(table.schema)):
                yield from _cut(entry, group, first, request)
                first += group.rows

    def records(self, store: Store, piece: Piece, request: RecordRequest) -> Iterator[Record]:
        """Yield the rows of the piece."""
        with store.open(piece.key, version=piece.version, size=piece.size) as file:
            table = self.open_table(file, piece.size)
            check_safe(store.uri_of(piece.key), table.schema)
            names = request.columns_in(table.schema)
            for first, batch in table.batches(piece, names):
                columns = {name: stored(batch.column(batch.schema.get_field_index(name))) for name in names}
                for row in range(batch.num_rows):
                    at, values = first + row, _values(columns, row, request)
                    yield Record(str(at), str(at + 1), values, begin=at, end=at + 1, number=at)

    def kept_value(self, value: Any) -> Any:
        """Return the value itself, a string as valid Unicode. Times that Python cannot hold are Arrow scalars."""
        if isinstance(value, np.ndarray):  # of a column that holds the medium as well
            return value.tolist()
        return as_text(value) if isinstance(value, str) else value

    def read_whole(self, store: Store, piece: Piece, request: RecordRequest) -> Any:  # noqa: ARG002
        """Raise what is wrong with a file that was damaged when it was planned."""
        with store.open(piece.key, version=piece.version, size=piece.size) as file:
            compression, start = compression_of(file, piece.key), file.read(512)
        if compression is not None:
            raise BadMedium(f"the file is compressed with {compression}: {self.kind} is read only if it is not")
        if start.startswith(self.signatures):
            raise BadMedium(f"the file is {self.kind} that is truncated or damaged")
        raise BadMedium(f"the file is {describe(start)}, not {self.kind}")

    def explain(self, error: Exception, place: str) -> Exception:
        """Return the error with the row from which the file is damaged; parsers' own words are made printable."""
        if isinstance(error, StorageError | BadMedium):
            return error
        printable = "".join(char if char.isprintable() else " " for char in str(error))
        text = " ".join(printable.split()) or type(error).__name__
        bad = BadMedium(f"the file is {self.kind} that is damaged from row {int(place):,} on: {text}")
        bad.__cause__ = error  # tells a shortage of memory from damage
        return bad


def _cut(entry: Entry, group: RowGroup, first: int, request: RecordRequest) -> Iterator[Piece]:
    """Yield pieces of a row group whose first row has the number `first` in its file."""
    rows, size = group.rows, group.size
    fitting = TABLE_PIECE_BYTES * rows // size if size else rows
    each = max(1, min(TABLE_PIECE_ROWS, fitting, request.options.piece_units or TABLE_PIECE_ROWS))
    weight = size * _DECODED_BYTES.get(request.options.medium, 1)
    for begin in range(first, first + rows, each):
        end = min(begin + each, first + rows)
        units = end - begin
        yield Piece.of(
            entry, begin=begin, end=end, first=first, offset=group.offset, units=units, weight=weight * units // rows
        )


def _values(columns: dict[str, pa.Array], row: int, request: RecordRequest) -> dict[str, Any] | Exception:
    """Return the values of one row, or why they cannot be read, for example a time that Python cannot hold."""
    read = {*request.medium_columns, *request.identity.values()}
    try:
        return {name: (to_value if name in read else to_kept)(column[row]) for name, column in columns.items()}
    except Exception as error:  # noqa: BLE001  it costs this row only
        return error
