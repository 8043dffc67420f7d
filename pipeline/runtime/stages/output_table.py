"""The columns of a head, with one value per unit, as an Arrow table between predict and write.

All lists are large, because 2³¹ elements would overflow a plain list. A medium is stored as its values and shape: it is
encoded as a file in `write`, on another CPU than the replica's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.formatting import counted
from pipeline.heads.head import ColumnType
from pipeline.runtime.stages.shard_format import KEPT_PREFIX, list_array
from pipeline.sinks.media import MEDIA_ENCODERS, medium_name
from pipeline.sinks.schema import IDENTITY_COLUMNS, arrow_type, to_large_type

_MEDIUM = pa.struct([("data", pa.large_binary()), ("shape", pa.large_list(pa.int32()))])
_DTYPES = {"mp4": np.uint8, "png": np.uint8, "wav": np.float32}


def output_table(
    values: Mapping[str, Sequence[Any] | np.ndarray], columns: Mapping[str, ColumnType], units: int
) -> pa.Table:
    """Return a table of exactly `columns` with one row per unit.

    Raises:
        ValueError: A column is missing, not declared, or has another length.
        OverflowError: An array has values out of range of its column's type.
    """
    if values.keys() != columns.keys():
        raise ValueError(f"the head returned the columns {sorted(values)}, but declares {sorted(columns)}")
    for name, column in values.items():
        if len(column) != units:
            raise ValueError(f"column {name!r} has {counted(len(column), 'value')} for {counted(units, 'unit')}")
    table = pa.table({name: to_array(values[name], kind) for name, kind in columns.items()})
    for name in columns:
        _check_range(name, table[name].chunk(0))
    return table


def empty_output_table(columns: Mapping[str, ColumnType]) -> pa.Table:
    """Return the table of no units."""
    return pa.table({name: pa.array([], transit_type(kind)) for name, kind in columns.items()})


def assemble_rows(
    units: pa.Table, done: Sequence[tuple[list[int], pa.Table]], columns: Mapping[str, ColumnType], segment: int
) -> pa.Table:
    """Return the rows of the predicted units in plan order: identity columns, kept columns and `columns`.

    done: Tables of `columns`, each with the indices of its units. segment: Number of the plan's segment.
    """
    order = np.array([index for indices, _ in done for index in indices], np.int64)
    predicted = pa.concat_tables([table for _, table in done] or [empty_output_table(columns)]).combine_chunks()
    if (np.diff(order) < 0).any():  # buckets were mixed: back to plan order
        predicted = predicted.take(np.argsort(order))
    carried = [name for name in units.column_names if name in IDENTITY_COLUMNS or name.startswith(KEPT_PREFIX)]
    rows = units.select(carried).take(np.sort(order))
    for name in predicted.column_names:
        rows = rows.append_column(predicted.field(name), predicted[name])
    return rows.append_column("segment", pa.array([segment] * rows.num_rows, pa.int32()))


def transit_type(column: ColumnType) -> pa.DataType:
    """Return the Arrow type of a column between predict and write."""
    return to_large_type(arrow_type(column, medium=_MEDIUM))


def medium_kind(column: ColumnType | None) -> str | None:
    """Return the kind of the media in a column, which has one per row or a list of them; None for other columns."""
    kind = column[0] if isinstance(column, list) else column
    return kind if isinstance(kind, str) and medium_name(kind) in MEDIA_ENCODERS else None


def to_array(values: Sequence[Any] | np.ndarray, column: ColumnType) -> pa.Array:
    """Return one column. Arrays become lists of their elements, or media, without conversion to Python objects."""
    arrays = len(values) and all(isinstance(value, np.ndarray) for value in values)
    if kind := medium_kind(column):
        listed = isinstance(column, list)
        values = [[_medium(one, kind) for one in value] if listed else _medium(value, kind) for value in values]
    elif arrays and isinstance(column, list) and isinstance(column[0], str):
        return list_array(list(values), transit_type(column[0]))
    return pa.array(values, transit_type(column))


def medium_array(medium: pa.StructScalar, kind: str) -> np.ndarray:
    """Return the array of a medium as the head returned it, as a view."""
    return np.frombuffer(medium["data"].as_buffer(), _DTYPES[medium_name(kind)]).reshape(medium["shape"].as_py())


def _check_range(name: str, array: pa.Array) -> None:
    """Raise OverflowError if lists of floats have one that is not finite: in the model all of them were."""
    if not pa.types.is_large_list(array.type) or not pa.types.is_floating(array.type.value_type):
        return
    values = array.values.to_numpy()
    if not len(values) or _finite(values):
        return
    advice = ": use --array-dtype float32" if values.dtype == np.float16 else ""
    greatest = f"{float(np.finfo(values.dtype).max):,.5g}, the maximum of {values.dtype}"
    raise OverflowError(f"column {name!r} has values beyond {greatest}{advice}")


def _finite(values: np.ndarray) -> bool:
    """Return whether floats are neither infinite nor NaN. Bits as integers: these sort after all other numbers.

    This is 15 times faster than numpy's float16, which is computed in float32.
    """
    signed, unsigned = f"i{values.itemsize}", f"u{values.itemsize}"
    plus, minus = np.array([np.inf, -np.inf], values.dtype)
    return bool(values.view(signed).max() < plus.view(signed) and values.view(unsigned).max() < minus.view(unsigned))


def _medium(value: np.ndarray, kind: str) -> dict[str, Any]:
    array = np.ascontiguousarray(value, _DTYPES[medium_name(kind)])
    return {"data": array.tobytes(), "shape": list(array.shape)}
