"""Index of an Arrow stream: where its record batches lie, from their headers, without reading the batches.

pyarrow reads a message with its body, and `datasets` downloads the whole folder; a plan needs some hundred bytes.

A message is FF FF FF FF, the length of its metadata as int32, the metadata, and a body whose length the metadata gives.
The metadata is a flatbuffer: a table points to a list of the offsets of its fields, which are known by number.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.sources.tables.table_reader import RowGroup

_CONTINUATION = b"\xff\xff\xff\xff"
_RECORD_BATCH = 3  # MessageHeader in Arrow's Message.fbs
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3  # fields of Message
_LENGTH, _NODES = 0, 1  # fields of RecordBatch; a node is the length of a column and its number of nulls
_MAX_ROWS_PER_BYTE = 1 << 12  # more is not compression but a damaged number
_MAX_METADATA_BYTES = 1 << 28


def record_batches(file: BinaryIO, size: int, position: int = 0) -> Iterator[RowGroup]:
    """Yield the record batches of a stream that begins at a position of a file of `size` bytes.

    Raise ValueError if it is damaged or truncated.
    """
    while position < size:
        file.seek(position)
        start = file.read(8)
        if start[:4] != _CONTINUATION or len(start) < 8:
            raise ValueError(f"no message at byte {position}")
        length = struct.unpack("<i", start[4:])[0]
        if length == 0:
            return
        if not 0 < length <= _MAX_METADATA_BYTES or len(metadata := file.read(length)) < length:
            raise ValueError(f"{length} bytes of metadata at byte {position} cannot be read")
        kind, rows, body = _parse(metadata)
        end = position + 8 + length + body
        if end > size or body < 0:
            raise ValueError(f"a message at byte {position} ends at byte {end}, but the file at byte {size}")
        if kind == _RECORD_BATCH:
            yield RowGroup(rows, end - position, position)
        position = end


def _parse(metadata: bytes) -> tuple[int, int, int]:
    """Return (kind, rows, bytes of the body) of a message; 0 rows if it is not a record batch."""
    try:
        table = _number(metadata, 0, "I")
        kind = _number(metadata, _field(metadata, table, _HEADER_TYPE), "B")
        body = _number(metadata, _field(metadata, table, _BODY_LENGTH), "q")
        if kind != _RECORD_BATCH:
            return kind, 0, body
        batch = _follow(metadata, _field(metadata, table, _HEADER))
        rows = _number(metadata, _field(metadata, batch, _LENGTH), "q")
        nodes = _follow(metadata, _field(metadata, batch, _NODES))
        first = _number(metadata, nodes + 4, "q") if _number(metadata, nodes, "I") else 0
    except struct.error as error:
        raise ValueError(f"the metadata of a message is damaged: {error}") from error
    if rows != first or not 0 <= rows <= _MAX_ROWS_PER_BYTE * (len(metadata) + body):
        raise ValueError(f"a batch declares {rows} rows in {body} bytes, but {first} in its first column")
    return kind, rows, body


def _follow(metadata: bytes, position: int) -> int:
    return position + _number(metadata, position, "I")


def _field(metadata: bytes, table: int, number: int) -> int:
    """Return the position of a field of a table; the end of the metadata, which reads as 0, if it has its default."""
    offsets = table - _number(metadata, table, "i")
    entry = 4 + 2 * number
    offset = _number(metadata, offsets + entry, "H") if entry < _number(metadata, offsets, "H") else 0
    return table + offset if offset else len(metadata)


def _number(metadata: bytes, position: int, kind: str) -> int:
    if position == len(metadata):
        return 0
    value: int = struct.unpack_from(f"<{kind}", metadata, position)[0]
    return value
