"""Arrow's stream format: where the record batches of a file lie, found by their headers, without reading the batches.

A message is FF FF FF FF, the length of its metadata as int32, the metadata, and a body whose length the metadata says.
The metadata is a flatbuffer: a table points back to a list of where its fields lie, and fields are known by number.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_CONTINUED = b"\xff\xff\xff\xff"
_RECORD_BATCH = 3  # MessageHeader in Arrow's Message.fbs
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3  # fields of Message
_LENGTH, _NODES = 0, 1  # fields of RecordBatch; a node is the length of a column and how many of its values are null
_DENSEST = 1 << 12  # rows a byte: more is no compression but a damaged number
_MOST = 1 << 28  # bytes of metadata that are read


class Batch(NamedTuple):
    """A record batch: where its message starts, in bytes, and how long it is; the number of its first row, and rows."""

    offset: int
    size: int
    first: int
    rows: int


def record_batches(file: BinaryIO, size: int) -> Iterator[Batch]:
    """The record batches of a stream of `size` bytes. ValueError where it is none, or cut short."""
    at = first = 0
    while at < size:
        file.seek(at)
        start = file.read(8)
        if start[:4] != _CONTINUED or len(start) < 8:
            raise ValueError(f"no message at byte {at}")
        length = struct.unpack("<i", start[4:])[0]
        if length == 0:
            return
        kind, rows, body = _message(_metadata(file, length))
        end = at + 8 + length + body
        if end > size or body < 0:
            raise ValueError(f"a message at byte {at} ends at byte {end}, the file at {size}")
        if kind == _RECORD_BATCH:
            yield Batch(at, end - at, first, rows)
            first += rows
        at = end


def _metadata(file: BinaryIO, length: int) -> bytes:
    if not 0 < length <= _MOST or len(data := file.read(length)) < length:
        raise ValueError(f"{length} bytes of metadata cannot be read")
    return data


def _message(data: bytes) -> tuple[int, int, int]:
    """(kind, rows, bytes of the body) of a message; 0 rows of one that is no record batch."""
    try:
        table = _number(data, 0, "I")
        kind = _number(data, _field(data, table, _HEADER_TYPE), "B")
        body = _number(data, _field(data, table, _BODY_LENGTH), "q")
        if kind != _RECORD_BATCH:
            return kind, 0, body
        return kind, _rows(data, _follow(data, _field(data, table, _HEADER)), body), body
    except struct.error as error:
        raise ValueError(f"the metadata of a message is damaged: {error}") from error


def _rows(data: bytes, batch: int, body: int) -> int:
    """Rows of a record batch; ValueError where they are not those of its first column."""
    rows = _number(data, _field(data, batch, _LENGTH), "q")
    nodes = _follow(data, _field(data, batch, _NODES))
    first = _number(data, nodes + 4, "q") if _number(data, nodes, "I") else 0
    if rows != first or not 0 <= rows <= _DENSEST * (len(data) + body):
        raise ValueError(f"a batch of {rows} rows in {body} bytes, its first column has {first}")
    return rows


def _follow(data: bytes, at: int) -> int:
    return at + _number(data, at, "I")


def _field(data: bytes, table: int, number: int) -> int:
    """Where a field of a table lies; behind the end, which reads as 0, where it has its default."""
    listed = table - _number(data, table, "i")
    place = 4 + 2 * number
    offset = _number(data, listed + place, "H") if place < _number(data, listed, "H") else 0
    return table + offset if offset else len(data)


def _number(data: bytes, at: int, kind: str) -> int:
    if at == len(data):
        return 0
    value: int = struct.unpack_from(f"<{kind}", data, at)[0]
    return value
