"""Tables as Parquet files: a row is one unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sources.arrow_columns import is_named
from pipeline.sources.compressed import open_decompressed
from pipeline.sources.source import Piece
from pipeline.sources.table_source import MEDIA, TableSource, whole_piece
from pipeline.storage import AccessError, Entry, StorageError, Store

_ROWS = 256  # decoded at a time: those before the piece in its row group are decoded too, and dropped
_BUFFER = 8 << 20  # bytes of a column that are read at a time, in place of all that the row group has


@dataclass(frozen=True)
class Parquet(TableSource):
    """Reads Parquet files, with pictures as `datasets` stores them, as bytes, or by their paths."""

    what: ClassVar[str] = "a Parquet file"
    magic: ClassVar[bytes] = b"PAR1"

    def schema(self, store: Store, entry: Entry) -> pa.Schema | None:
        """The schema in the footer."""
        parquet = _footer(store, entry)
        return None if parquet is None else parquet.schema_arrow

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Ranges of rows of one row group."""
        parquet = _footer(store, entry)
        if parquet is None:
            yield whole_piece(entry, units=1)
            return
        self._check(store.uri_of(entry.key), parquet.schema_arrow)
        groups = parquet.metadata
        leaves = [at for at, path in enumerate(_paths(parquet)) if is_named(path, self.wanted)]
        first = 0
        for number in range(groups.num_row_groups):
            group = groups.row_group(number)
            size = sum(group.column(leaf).total_uncompressed_size for leaf in leaves)
            yield from self._cut(entry, first, group.num_rows, size)
            first += group.num_rows
        if not first:
            yield whole_piece(entry, units=0)

    def batches(self, store: Store, piece: Piece, names: tuple[str, ...]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The rows of the row groups that the piece lies in."""
        if piece.begin == piece.end:
            return
        with open_decompressed(store, piece.key, piece.version) as file:
            parquet = _open(file)
            counts = _counts(parquet)
            begin, end = piece.begin or 0, sum(counts) if piece.end is None else piece.end
            spans = zip(accumulate(counts, initial=0), counts, strict=False)
            groups = [(number, at) for number, (at, rows) in enumerate(spans) if at < end and at + rows > begin]
            at = groups[0][1] if groups else end
            numbers = [number for number, _ in groups]
            for batch in parquet.iter_batches(_ROWS, row_groups=numbers, columns=list(names), use_threads=False):
                low, high = max(begin, at), min(end, at + batch.num_rows)
                if low < high:
                    yield low, batch.slice(low - at, high - low)
                at += batch.num_rows
                if at >= end:
                    return


def _open(file: BinaryIO) -> pq.ParquetFile:
    return pq.ParquetFile(file, buffer_size=_BUFFER)


def _counts(parquet: pq.ParquetFile) -> list[int]:
    """Rows of each row group."""
    return [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]


def _paths(parquet: pq.ParquetFile) -> list[str]:
    """The path of each leaf of the schema: `image.bytes`."""
    return [parquet.metadata.schema.column(at).path for at in range(parquet.metadata.num_columns)]


def _footer(store: Store, entry: Entry) -> pq.ParquetFile | None:
    """A file whose footer alone is used; None where it has none that can be read."""
    try:
        with open_decompressed(store, entry.key) as file:
            parquet = _open(file)
        _ = parquet.schema_arrow.names, _paths(parquet)  # raises where one is no UTF-8
        counts = _counts(parquet)
        return parquet if min(counts, default=0) >= 0 and sum(counts) == parquet.metadata.num_rows else None
    except (AccessError, StorageError):
        raise
    except Exception:  # noqa: BLE001  a parser of untrusted bytes: whatever it raises, the file is damaged
        return None


PARQUET = Parquet("parquet", frozenset({".parquet"}), MEDIA)
