"""Parquet files: each row is one unit."""

from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sources.record_source import RecordSource
from pipeline.sources.source import Piece
from pipeline.sources.tables.table_reader import RowGroup, TableReader, rows_of_piece

_BATCH_ROWS, _BATCH_BYTES = 256, 64 << 20  # decoded at a time, at most, and at least a row
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
        prefixes = tuple(f"{name}." for name in columns)
        leaves = [leaf for leaf, path in enumerate(self._paths) if f"{path}.".startswith(prefixes)]
        groups = (self._file.metadata.row_group(number) for number in range(len(self._rows)))
        sizes = (sum(group.column(leaf).total_uncompressed_size for leaf in leaves) for group in groups)
        return [RowGroup(rows, size) for rows, size in zip(self._rows, sizes, strict=True)]

    def batches(self, piece: Piece, columns: tuple[str, ...]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows of the piece from the row groups that it lies in."""
        begin, end = piece.begin or 0, sum(self._rows) if piece.end is None else piece.end
        starts = list(accumulate(self._rows, initial=0))
        groups = [number for number, (start, stop) in enumerate(pairwise(starts)) if start < end and stop > begin]
        size = sum(group.size for group in self.row_groups(columns)) // max(1, sum(self._rows))  # of a row, on average
        rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, size)))
        # Rows of the row group before the piece are decoded too, and dropped.
        batches = self._file.iter_batches(rows, row_groups=groups, columns=list(columns), use_threads=False)
        return rows_of_piece(batches, starts[groups[0]] if groups else end, piece)


PARQUET_READER = TableReader("a Parquet file", (b"PAR1",), ParquetTable)
PARQUET = RecordSource("parquet", frozenset({".parquet", ".parq", ".pq"}), PARQUET_READER)
