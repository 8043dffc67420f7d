"""Arrow files, Feather files and folders written by `datasets.save_to_disk`: each row is one unit."""

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa

from pipeline.sources.record_source import RecordSource
from pipeline.sources.source import Piece
from pipeline.sources.tables.arrow_columns import has_dictionary
from pipeline.sources.tables.arrow_stream_index import record_batches
from pipeline.sources.tables.table_reader import RowGroup, TableReader, rows_of_piece

_FILE_MARK = b"ARROW1\0\0"


class ArrowStreamTable:
    """An open Arrow stream, or an Arrow or Feather file, which holds one after its mark.

    Its row groups are record batches; each is read whole for a piece.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._source = file, size, pa.PythonFile(file, "r")
        self._begin = len(_FILE_MARK) if file.read(len(_FILE_MARK)) == _FILE_MARK else 0
        self._source.seek(self._begin)
        self.schema = pa.ipc.read_schema(pa.ipc.read_message(self._source))
        if not self.schema.names:  # the names raise if one is not UTF-8
            raise ValueError("no columns")

    def row_groups(self, columns: tuple[str, ...]) -> list[RowGroup]:  # noqa: ARG002
        """Return the record batches from their headers."""
        return list(record_batches(self._file, self._size, self._begin))

    def batches(self, piece: Piece, columns: tuple[str, ...]) -> Iterator[tuple[int, pa.RecordBatch]]:  # noqa: ARG002
        """Yield the rows of the record batch that the piece lies in, with all columns."""
        if piece.offset is None or has_dictionary(self.schema):
            # Read from the start: dictionaries lie anywhere before the batches that need them.
            self._source.seek(self._begin)
            return rows_of_piece(pa.ipc.open_stream(self._source), 0, piece)
        self._source.seek(piece.offset)
        batch = pa.ipc.read_record_batch(pa.ipc.read_message(self._source), self.schema)
        return rows_of_piece([batch], piece.first or 0, piece)


_READER = TableReader("an Arrow file", (_FILE_MARK, b"\xff\xff\xff\xff"), ArrowStreamTable)
# Next to these .arrow files lie caches of `map` and unfinished files.
DATASET = RecordSource(
    "dataset", frozenset({".arrow", ".feather"}), _READER, file_names=("data-*.arrow", "dataset.arrow", "*.feather")
)
