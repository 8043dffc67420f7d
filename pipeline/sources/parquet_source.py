"""Parquet files: each row is one unit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sources.arrow_columns import is_in_columns
from pipeline.sources.record_source import RecordSource
from pipeline.sources.source import Piece
from pipeline.sources.table_reader import TABLE_MEDIA, RowGroup, TableReader

_BATCH_ROWS = 256  # decoded at a time; rows of the row group before the piece are decoded too, and dropped
_BUFFER_BYTES = 8 << 20  # read at a time of a column chunk, instead of the whole chunk


class ParquetTable:
    """An open Parquet file."""

    def __init__(self, file: BinaryIO, size: int) -> None:  # noqa: ARG002
        self._file = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES)
        metadata = self._file.metadata
        self.schema = self._file.schema_arrow
        self._rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        self._paths = [metadata.schema.column(leaf).path for leaf in range(metadata.num_columns)]  # like image.bytes
        _ = self.schema.names  # raises if a name is not UTF-8
        if min(self._rows, default=0) < 0 or sum(self._rows) != metadata.num_rows:
            raise ValueError(f"row groups of {self._rows} rows, the file declares {metadata.num_rows}")

    def row_groups(self, columns: tuple[str, ...]) -> list[RowGroup]:
        """Return the row groups from the footer, with the uncompressed size of the columns."""
        leaves = [leaf for leaf, path in enumerate(self._paths) if is_in_columns(path, columns)]
        groups = []
        for number, rows in enumerate(self._rows):
            group = self._file.metadata.row_group(number)
            groups.append(RowGroup(rows, sum(group.column(leaf).total_uncompressed_size for leaf in leaves)))
        return groups

    def batches(self, piece: Piece, columns: tuple[str, ...]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows of the piece from the row groups that it lies in."""
        begin, end = piece.begin or 0, sum(self._rows) if piece.end is None else piece.end
        starts = accumulate(self._rows, initial=0)
        groups = [
            (number, start)
            for number, (start, rows) in enumerate(zip(starts, self._rows, strict=False))
            if start < end and start + rows > begin
        ]
        start = groups[0][1] if groups else end
        numbers = [number for number, _ in groups]
        for batch in self._file.iter_batches(_BATCH_ROWS, row_groups=numbers, columns=list(columns), use_threads=False):
            low, high = max(begin, start), min(end, start + batch.num_rows)
            if low < high:
                yield low, batch.slice(low - start, high - low)
            start += batch.num_rows
            if start >= end:
                return


PARQUET_READER = TableReader("a Parquet file", b"PAR1", ParquetTable)
PARQUET = RecordSource("parquet", frozenset({".parquet"}), TABLE_MEDIA, PARQUET_READER)
