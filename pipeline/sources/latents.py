"""The rows of an earlier run that kept its latents: each is one unit, under its own id, to be decoded again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sources.base import Medium, Piece, SourceOptions, Unit
from pipeline.storage import AccessError, Changed, Entry, StorageError, Store

IDENTITY = ("id", "uri", "version")
PIECE_BYTES = 16 << 20


@dataclass(frozen=True)
class Latents:
    """Reads the parts of a run's OUTPUT. columns: those of a row that its medium is made of, the latents first.

    uri and version of a unit are those of the input that was encoded, which is not read.
    """

    name: str = "latents"
    extensions: frozenset[str] = frozenset({".parquet"})
    media: frozenset[Medium] = frozenset({"latents"})
    opens: bool = True
    columns: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    piece_units: int | None = None

    def configured(self, options: SourceOptions) -> Latents:
        """With the columns that the head needs. ValueError for options about inputs, of which none is read."""
        for name in ("column", "id_column", "fps", "clip_stride"):
            if value := getattr(options, name):
                raise ValueError(f"{name} ({value!r}) means nothing where latents are decoded: no input is read")
        return Latents(columns=options.columns, keep=options.keep, piece_units=options.piece_units)

    def inputs(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Every part."""
        return entries

    def ids(self, store: Store, entry: Entry) -> Iterator[str]:  # noqa: ARG002
        """Not asked for: the ids of a run's rows are distinct."""
        return iter(())

    def kept(self, store: Store, entry: Entry) -> pa.Schema:
        """Columns of the part that the new rows carry along."""
        if not self.keep:
            return pa.schema([])
        with store.open(entry.key) as file:
            schema = pq.ParquetFile(file).schema_arrow
        self._check(store, entry.key, schema)
        return pa.schema([schema.field(name) for name in self.keep])

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Row ranges within one row group. AccessError where the part lacks a column."""
        with store.open(entry.key) as file:
            parquet = _parquet(store, entry.key, file)
            self._check(store, entry.key, parquet.schema_arrow)
            groups = [parquet.metadata.row_group(at) for at in range(parquet.num_row_groups)]
        first = 0
        for group in groups:
            each = max(1, group.total_byte_size // max(1, group.num_rows))
            rows = min(self.piece_units or group.num_rows, max(1, PIECE_BYTES // each))
            for begin in range(first, first + group.num_rows, rows):
                end = min(begin + rows, first + group.num_rows)
                part = {"begin": begin, "end": end, "first": first, "units": end - begin}
                yield Piece(key=entry.key, version=entry.version, size=entry.size, weight=each * (end - begin), **part)
            first += group.num_rows

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """The rows of the piece; where it cannot be read, as many errors."""
        assert piece.begin is not None
        assert piece.end is not None
        try:
            rows = self._read(store, piece)
        except AccessError:
            raise
        except Exception as error:  # noqa: BLE001  a damaged part costs its rows, each of which was planned
            for row in range(piece.begin, piece.end):
                unit_id, uri = f"{piece.key}#{row}", store.uri_of(piece.key)
                yield Unit(id=unit_id, uri=uri, version=piece.version, error=error)
            return
        for row in range(rows.num_rows):
            yield self._unit(rows.slice(row, 1))

    def _unit(self, row: pa.Table) -> Unit:
        """One row; its latents stay in Arrow's buffer."""
        latents, *others = self.columns
        values: dict[str, Any] = row.select(list({*IDENTITY, *others, *self.keep})).to_pylist()[0]
        flat: np.ndarray = row.column(latents).combine_chunks().flatten().to_numpy()
        return Unit(
            id=values["id"],
            uri=values["uri"],
            version=values["version"],
            medium={latents: flat, **{name: values[name] for name in others}},
            kept={name: values[name] for name in self.keep},
        )

    def _read(self, store: Store, piece: Piece) -> pa.Table:
        """The rows of a piece, named columns only, of the version that was planned."""
        entry = next((entry for entry in store.entries(piece.key) if entry.key == piece.key), None)
        if entry is None or entry.version != piece.version:
            raise Changed(f"{store.uri_of(piece.key)} is gone or no longer {piece.version}")
        with store.open(piece.key) as file:
            parquet, first = pq.ParquetFile(file), 0
            for group in range(parquet.num_row_groups):
                if first == piece.first:
                    names = list(dict.fromkeys([*IDENTITY, *self.columns, *self.keep]))
                    rows = parquet.read_row_group(group, columns=names)
                    return rows.slice((piece.begin or 0) - first, (piece.end or 0) - (piece.begin or 0))
                first += parquet.metadata.row_group(group).num_rows
        raise StorageError(f"{store.uri_of(piece.key)} has no row group that begins with row {piece.first}")

    def _check(self, store: Store, key: str, schema: pa.Schema) -> None:
        missing = [name for name in (*IDENTITY, *self.columns, *self.keep) if name not in schema.names]
        if missing:
            raise AccessError(
                f"{store.uri_of(key)} has no column {missing[0]!r}, it has {', '.join(schema.names)}: was it written "
                "by this task with --latents?"
            )


def _parquet(store: Store, key: str, file: Any) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except pa.ArrowException as error:
        raise AccessError(f"{store.uri_of(key)} is not a part that can be read: {error}") from None


LATENTS = Latents()
