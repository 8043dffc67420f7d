"""What the sources of typed tables have in common: rows of known number, kept columns of their own types."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from pipeline.media import BadMedium, MediumKind
from pipeline.sources.arrow_columns import (
    check_column,
    check_id,
    check_kept,
    check_medium,
    check_safe,
    check_whole,
    stored,
    to_kept,
    to_value,
)
from pipeline.sources.compressed import open_decompressed
from pipeline.sources.file_signatures import describe
from pipeline.sources.record_source import Record, RecordSource, as_text
from pipeline.sources.source import Piece, Unit
from pipeline.storage import AccessError, Entry, StorageError, Store

MEDIA: frozenset[MediumKind] = frozenset({"text", "image", "frame_pair", "array"})
TABLE_PIECE_BYTES = 16 << 20
TABLE_PIECE_ROWS = 4096

_DECODED: dict[MediumKind, int] = {"image": 8, "frame_pair": 8}  # decoded bytes per byte of a typical JPEG
_START = 512  # bytes by which a file is described


@dataclass(frozen=True)
class TableSource(RecordSource):
    """Reads rows; the id is the key and the row's number, `train.parquet#1234`, or what the id column holds.

    Only the columns that are asked for are read, and never one whose type would run code. Kept columns keep their
    types. A piece lies in one batch of rows, and gives exactly the units that were planned.
    """

    what: ClassVar[str]
    """What a file is, in messages: "a Parquet file"."""
    magic: ClassVar[bytes]
    """What it starts with."""

    @abstractmethod
    def schema(self, store: Store, entry: Entry) -> pa.Schema | None:
        """The schema of a file; None where it is damaged."""

    @abstractmethod
    def batches(self, store: Store, piece: Piece, names: tuple[str, ...]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The rows of a piece, or to the end of the file, in parts with the number of their first row."""

    def kept(self, store: Store, entry: Entry) -> pa.Schema:
        """The kept columns as they are stored; none of a damaged file."""
        schema = self.schema(store, entry) if self.options.keep else None
        if schema is None:
            return pa.schema([])
        self._check(store.uri_of(entry.key), schema)
        uri = store.uri_of(entry.key)
        kinds = {name: check_column(uri, schema, name) for name in self.options.keep}
        for name, kind in kinds.items():
            check_kept(uri, name, kind)
        return pa.schema([(name, kinds[name]) for name in self.options.keep])

    def require(self, store: Store, entry: Entry, names: Iterable[str]) -> None:
        """AccessError where the file lacks one of the columns; nothing where it is damaged."""
        schema = self.schema(store, entry)
        for name in names if schema is not None else ():
            check_column(store.uri_of(entry.key), schema, name)

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """As many units as the piece has rows, whatever happens: those that cannot be read are errors."""
        if piece.begin is None or piece.end is None:
            yield self.damaged(store, piece)
            return
        at, error = piece.begin, None
        try:
            for record in self.records(store, piece, self.wanted):
                yield self.unit(store, piece, record)
                at += 1
        except AccessError:
            raise
        except (StorageError, BadMedium) as fault:
            error = fault
        except Exception as fault:  # noqa: BLE001  decoders raise anything, in their own words: it costs the piece's rest
            said = " ".join("".join(letter if letter.isprintable() else " " for letter in str(fault)).split())
            error = BadMedium(f"{self.what} that is damaged from row {at:,} on: {said or type(fault).__name__}")
            error.__cause__ = fault  # which tells a lack of memory from a damage
        for row in range(at, piece.end):
            yield self.failed(store, piece, str(row), error or BadMedium("the file has fewer rows than it says"))

    def records(self, store: Store, piece: Piece, names: tuple[str, ...]) -> Iterator[Record]:
        """The rows of the piece, with the columns that are named."""
        for first, batch in self.batches(store, piece, names):
            check_safe(store.uri_of(piece.key), batch.schema)
            found = {name: batch.column(batch.schema.get_field_index(name)) for name in names}
            for column in found.values():
                check_whole(column)
            columns = {name: stored(column) for name, column in found.items()}
            for row in range(batch.num_rows):
                values = self._values(columns, row)
                yield Record(str(first + row), str(first + row + 1), values, first + row)

    def carried(self, value: Any) -> Any:
        """The value itself, but for what is no character in a string. Where times are finer or further away than
        Python's it is an Arrow scalar."""
        if isinstance(value, np.ndarray):  # of a column that is the medium too
            return value.tolist()
        return as_text(value) if isinstance(value, str) else value

    def damaged(self, store: Store, piece: Piece) -> Unit:
        """The unit of a file that was found damaged, with what it seems to be."""
        unit = Unit(id=piece.key, uri=store.uri_of(piece.key), version=piece.version)
        try:
            with open_decompressed(store, piece.key, piece.version) as file:
                start = file.read(_START)
        except StorageError as error:
            unit.error = error
            return unit
        whole = start.startswith(self.magic)
        words = f"{self.what} that is cut short or damaged" if whole else f"{describe(start)}, not {self.what}"
        unit.error = BadMedium(words)
        return unit

    def _check(self, uri: str, schema: pa.Schema) -> None:
        """AccessError where the columns are not there, or not of a type that holds what is asked of them."""
        options = self.options
        check_safe(uri, schema)
        for name in self.columns:
            check_medium(uri, name, check_column(uri, schema, name), options.medium)
        if options.id_column is not None:
            check_id(uri, options.id_column, check_column(uri, schema, options.id_column))
        for name in options.keep:
            check_column(uri, schema, name)

    def _values(self, columns: dict[str, pa.Array], row: int) -> dict[str, Any] | Exception:
        read = {*self.columns, self.options.id_column}
        try:
            return {
                name: to_value(column[row]) if name in read else to_kept(column[row])
                for name, column in columns.items()
            }
        except Exception as error:  # noqa: BLE001  of a time that Python has no word for, for example: it costs this row
            return error

    def _cut(self, entry: Entry, first: int, rows: int, size: int, offset: int | None = None) -> Iterator[Piece]:
        """Pieces of one batch of so many rows and bytes, the first of which has that number in its file."""
        fitting = TABLE_PIECE_BYTES * rows // size if size else rows
        each = max(1, min(TABLE_PIECE_ROWS, fitting, self.options.piece_units or TABLE_PIECE_ROWS))
        decoded = size * _DECODED.get(self.options.medium, 1)
        for begin in range(first, first + rows, each):
            end = min(begin + each, first + rows)
            yield Piece(
                key=entry.key,
                version=entry.version,
                size=entry.size,
                begin=begin,
                end=end,
                first=first,
                offset=offset,
                units=end - begin,
                weight=decoded * (end - begin) // rows,
            )


def whole_piece(entry: Entry, units: int) -> Piece:
    """The piece of a file without rows, or of a damaged one, which is one unit."""
    place = None if units else 0
    return Piece(key=entry.key, version=entry.version, size=entry.size, begin=place, end=place, units=units)
