"""A head's columns, lists or arrays of one value a unit, as an Arrow table of the head's types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.heads.base import ColumnType
from pipeline.sinks.schema import arrow_type


def to_rows(
    values: Mapping[str, Sequence[Any] | np.ndarray], columns: Mapping[str, ColumnType], units: int
) -> pa.Table:
    """A table with exactly `columns`, one row a unit; ValueError where one is missing, extra, or of another length."""
    if values.keys() != columns.keys():
        raise ValueError(f"the head gave the columns {sorted(values)}, it declares {sorted(columns)}")
    for name, column in values.items():
        if len(column) != units:
            raise ValueError(f"column {name!r} has {len(column)} values for {units} units")
    return pa.table({name: to_array(values[name], arrow_type(kind)) for name, kind in columns.items()})


def empty_rows(columns: Mapping[str, ColumnType]) -> pa.Table:
    """The table of no units."""
    return pa.table({name: pa.array([], arrow_type(kind)) for name, kind in columns.items()})


def to_array(values: Sequence[Any] | np.ndarray, kind: pa.DataType) -> pa.Array:
    """One column. An array [n, …] becomes n lists of its elements without going through Python objects."""
    if not isinstance(values, np.ndarray) or values.ndim == 1:
        return pa.array(values, kind)
    sizes = np.arange(len(values) + 1) * int(np.prod(values.shape[1:]))
    elements = pa.array(np.ascontiguousarray(values).reshape(-1), kind.value_type)
    if pa.types.is_large_list(kind):
        return pa.LargeListArray.from_arrays(pa.array(sizes, pa.int64()), elements)
    return pa.ListArray.from_arrays(pa.array(sizes, pa.int32()), elements)
