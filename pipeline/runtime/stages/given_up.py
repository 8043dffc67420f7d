"""Shards that cost their processes their lives again and again: every unit of them is quarantined, unread."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from pipeline.heads.head import ColumnType
from pipeline.runtime.stages.output_table import empty_output_table
from pipeline.runtime.stages.shard_format import pack, unpack


class GivenUp(Exception):  # noqa: N818 - it says what happened
    """A shard lost its processes in every pass, and what of it does is not known."""

    def __init__(self) -> None:
        super().__init__("one of the units of its shard ended the process each time, and it is not known which")


def skip_predict(row: pa.Table, *, columns: Mapping[str, ColumnType]) -> pa.Table:
    """A packed shard of which nothing is predicted, from one of which nothing was loaded, as `write` takes it."""
    units, failed, scalars = unpack(row)
    for name, column in zip(columns, empty_output_table(columns).columns, strict=True):
        units = units.append_column(name, column)
    units = units.append_column("segment", pa.array([], pa.int32()))
    return pack(units, failed, scalars | {"seconds_predict": 0.0})
