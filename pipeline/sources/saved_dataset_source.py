"""Folders as `datasets.save_to_disk` writes them: Arrow streams, of which a row is one unit."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

import pyarrow as pa

from pipeline.sources.arrow_columns import has_dictionary
from pipeline.sources.arrow_stream_index import record_batches
from pipeline.sources.compressed import open_decompressed
from pipeline.sources.source import Piece
from pipeline.sources.table_source import MEDIA, TableSource, whole_piece
from pipeline.storage import AccessError, Entry, StorageError, Store

_DATA = ("data-*.arrow", "dataset.arrow")  # beside them lie caches of `map` and unfinished files


@dataclass(frozen=True)
class Dataset(TableSource):
    """Reads the data files of a data set, or of a dictionary of splits. A record batch is read whole for each piece."""

    what: ClassVar[str] = "an Arrow stream"
    magic: ClassVar[bytes] = b"\xff\xff\xff\xff"

    def inputs(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """The files that hold the data."""
        return (entry for entry in entries if _is_data(entry.key))

    def schema(self, store: Store, entry: Entry) -> pa.Schema | None:
        """The schema at the beginning of the stream."""
        try:
            with open_decompressed(store, entry.key) as file:
                schema = _schema(pa.PythonFile(file, "r"))
                return schema if schema.names else None  # raises where one is no UTF-8
        except (AccessError, StorageError):
            raise
        except Exception:  # noqa: BLE001  a parser of untrusted bytes: whatever it raises, the file is damaged
            return None

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Ranges of rows of one record batch, with its offset."""
        schema = self.schema(store, entry)
        if schema is not None:
            self._check(store.uri_of(entry.key), schema)
        try:
            with open_decompressed(store, entry.key) as file:
                batches = list(record_batches(file, entry.size))
        except StorageError:
            raise
        except (OSError, ValueError, EOFError):
            schema = None
        if schema is None:
            yield whole_piece(entry, units=1)
            return
        if not sum(batch.rows for batch in batches):
            yield whole_piece(entry, units=0)
        for batch in batches:
            yield from self._cut(entry, batch.first, batch.rows, batch.size, batch.offset)

    def batches(self, store: Store, piece: Piece, names: tuple[str, ...]) -> Iterator[tuple[int, pa.RecordBatch]]:  # noqa: ARG002
        """The rows of the batch that the piece lies in, all of whose columns are read with it."""
        if piece.begin == piece.end:
            return
        with open_decompressed(store, piece.key, piece.version) as file:
            source = pa.PythonFile(file, "r")
            schema = _schema(source)
            if piece.offset is None or has_dictionary(schema):
                yield from _from_start(source, piece)
                return
            source.seek(piece.offset)
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(source), schema)
            begin, end = piece.begin or 0, piece.end or 0
            yield begin, batch.slice(begin - (piece.first or 0), end - begin)


def _schema(source: pa.NativeFile) -> pa.Schema:
    return pa.ipc.read_schema(pa.ipc.read_message(source))


def _from_start(source: pa.NativeFile, piece: Piece) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of a piece, read as a stream: dictionaries lie anywhere before the batches that need them."""
    source.seek(0)
    at, begin = 0, piece.begin or 0
    for batch in pa.ipc.open_stream(source):
        end = at + batch.num_rows if piece.end is None else piece.end
        low, high = max(begin, at), min(end, at + batch.num_rows)
        if low < high:
            yield low, batch.slice(low - at, high - low)
        at += batch.num_rows
        if piece.end is not None and at >= piece.end:
            return


def _is_data(key: str) -> bool:
    name = PurePosixPath(key).name
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _DATA)


DATASET = Dataset("dataset", frozenset({".arrow"}), MEDIA)
