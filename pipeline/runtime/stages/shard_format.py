"""A packed shard: one row of a Ray Dataset, in which each column of its tables is one `large_list`.

A block then has exactly one shard, whatever Ray does with blocks. Unpacking copies nothing: a replica reads the arrays
that `load` wrote on the same node from Ray's shared memory.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa

UNITS, QUARANTINED, SCALARS = "units.", "quarantined.", "scalars."
LATENTS_ARRAY = "latents"  # array of a unit whose latents an earlier run stored
KEPT_PREFIX = "kept."  # prefix of the columns that are copied from the input
SHAPE = ".shape"  # suffix of the column of an array column's shapes


def pack(units: pa.Table, quarantined: pa.Table, scalars: Mapping[str, Any]) -> pa.Table:
    """Return one row with both tables, of any lengths, and the scalars (numbers, strings, None)."""
    tables = {UNITS: units, QUARANTINED: quarantined}
    columns = {prefix + name: _wrap(table[name]) for prefix, table in tables.items() for name in table.column_names}
    return pa.table(columns | {SCALARS + name: pa.array([value]) for name, value in scalars.items()})


def unpack(row: pa.Table) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    """Return units, quarantined units and scalars of `pack`, as views of the row's buffers."""
    if row.num_rows != 1:
        raise ValueError(f"a batch must be one shard, got {row.num_rows} rows: map_batches needs batch_size=1")

    def cells(prefix: str) -> dict[str, pa.Scalar]:
        return {name.removeprefix(prefix): row[name][0] for name in row.column_names if name.startswith(prefix)}

    units, quarantined = (
        pa.table({name: cell.values for name, cell in cells(prefix).items()}) for prefix in (UNITS, QUARANTINED)
    )
    return units, quarantined, {name: cell.as_py() for name, cell in cells(SCALARS).items()}


def fatal_shard(row: pa.Table, fatal: str) -> pa.Table:
    """Return a packed shard of which nothing more is predicted, because its scalar `fatal` ends the run."""
    units, failed, scalars = unpack(row)
    return pack(units, failed, scalars | {"fatal": fatal, "seconds_predict": 0.0})


def _wrap(column: pa.ChunkedArray) -> pa.LargeListArray:
    values = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which would copy a single chunk
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)


def pack_arrays(arrays: Mapping[str, Sequence[np.ndarray]]) -> dict[str, pa.Array]:
    """Return columns with one array per unit under each name: its elements, and its shape in a second column."""
    columns: dict[str, pa.Array] = {}
    for name, items in arrays.items():
        dtypes = {item.dtype for item in items}
        if len(dtypes) != 1 or np.dtype(bool) in dtypes:
            found = dtypes or "none"
            raise TypeError(
                f"the arrays {name!r} of a shard must have one numeric dtype (uint8 for flags), got {found}"
            )
        columns[name] = list_array(items)
        columns[name + SHAPE] = pa.array([list(item.shape) for item in items], pa.large_list(pa.int32()))
    return columns


def unpack_arrays(units: pa.Table) -> dict[str, list[np.ndarray]]:
    """Return the arrays that `pack_arrays` stored, as read-only views of the table's buffers."""
    names = [name.removesuffix(SHAPE) for name in units.column_names if name.endswith(SHAPE)]
    flat = {name: units[name].chunk(0).flatten().to_numpy(zero_copy_only=True) for name in names}
    return {name: array_views(flat[name], units[name + SHAPE].to_pylist()) for name in names}


def list_array(arrays: Sequence[np.ndarray], element: pa.DataType | None = None) -> pa.LargeListArray:
    """Return one list per array, of its elements: the only copy in this process, into the buffer that is sent."""
    offsets = np.cumsum([0, *(array.size for array in arrays)], dtype=np.int64)
    flat = np.concatenate([array.reshape(-1) for array in arrays])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat, element))


def array_views(flat: np.ndarray, shapes: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Return arrays of these shapes that are joined in one flat buffer, as views of it."""
    ends = accumulate(map(prod, shapes), initial=0)
    return [flat[begin:end].reshape(shape) for (begin, end), shape in zip(pairwise(ends), shapes, strict=True)]
