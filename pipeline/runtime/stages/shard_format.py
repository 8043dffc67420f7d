"""A packed shard: one row of a Ray Dataset, in which each column of its tables is one `large_list`.

A block then has exactly one shard, whatever Ray does with blocks. Unpacking copies nothing: a replica reads the arrays
that `load` wrote on the same node from Ray's shared memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

UNITS, QUARANTINED, SCALARS = "units.", "quarantined.", "scalars."
LATENTS_ARRAY = "latents"  # array of a unit whose latents an earlier run stored
KEPT_PREFIX = "kept."  # prefix of the columns that are copied from the input
SHAPE = ".shape"  # suffix of the column of an array column's shapes


def pack(units: pa.Table, quarantined: pa.Table, scalars: Mapping[str, Any]) -> pa.Table:
    """Return one row with both tables, of any lengths, and the scalars (numbers, strings, None)."""
    columns: dict[str, pa.Array] = {}
    for prefix, table in ((UNITS, units), (QUARANTINED, quarantined)):
        columns |= {prefix + name: _wrap(table.column(name)) for name in table.column_names}
    columns |= {SCALARS + name: pa.array([value]) for name, value in scalars.items()}
    return pa.table(columns)


def unpack(row: pa.Table) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    """Return units, quarantined units and scalars of `pack`, as views of the row's buffers."""
    if row.num_rows != 1:
        raise ValueError(f"a batch must be one shard, got {row.num_rows} rows: map_batches needs batch_size=1")
    tables = [
        pa.table(
            {
                name.removeprefix(prefix): _unwrap(row.column(name))
                for name in row.column_names
                if name.startswith(prefix)
            }
        )
        for prefix in (UNITS, QUARANTINED)
    ]
    scalars = {
        name.removeprefix(SCALARS): row.column(name)[0].as_py() for name in row.column_names if name.startswith(SCALARS)
    }
    return tables[0], tables[1], scalars


def _wrap(column: pa.ChunkedArray) -> pa.LargeListArray:
    # combine_chunks would copy a single chunk.
    values = (
        column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
    )
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)


def _unwrap(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0)[0].values


@dataclass(frozen=True, kw_only=True)
class RaggedArrays:
    """Arrays of one dtype and any shapes, joined in one flat buffer. `ragged[i]` is a view of it."""

    values: np.ndarray  # [sum of sizes]
    offsets: np.ndarray  # [n + 1], of elements
    shapes: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]].reshape(self.shapes[index])


def pack_arrays(arrays: Mapping[str, Sequence[np.ndarray]]) -> dict[str, pa.Array]:
    """Return columns with one array per unit under each name: its elements, and its shape in a second column."""
    columns: dict[str, pa.Array] = {}
    for name, items in arrays.items():
        columns[name] = _elements(name, items)
        dims = np.array([len(item.shape) for item in items])
        flat = np.array([extent for item in items for extent in item.shape], np.int32)
        columns[name + SHAPE] = pa.LargeListArray.from_arrays(_offsets(dims), pa.array(flat))
    return columns


def unpack_arrays(units: pa.Table) -> dict[str, RaggedArrays]:
    """Return the arrays that `pack_arrays` stored, as read-only views of the table's buffers."""
    names = [name.removesuffix(SHAPE) for name in units.column_names if name.endswith(SHAPE)]
    return {name: _ragged(units.column(name), units.column(name + SHAPE)) for name in names}


def _elements(name: str, items: Sequence[np.ndarray]) -> pa.LargeListArray:
    dtypes = {item.dtype for item in items}
    if len(dtypes) != 1 or np.dtype(bool) in dtypes:
        raise TypeError(
            f"the arrays {name!r} of a shard must have one numeric dtype (uint8 for flags), got {dtypes or 'none'}"
        )
    # The only copy of the arrays in this process: into the buffer that is sent.
    flat = np.concatenate([item.reshape(-1) for item in items])
    return pa.LargeListArray.from_arrays(_offsets(np.array([item.size for item in items])), pa.array(flat))


def _offsets(sizes: np.ndarray) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64))


def _ragged(column: pa.ChunkedArray, shapes: pa.ChunkedArray) -> RaggedArrays:
    if column.num_chunks != 1:
        raise ValueError(f"an unpacked column is one chunk, got {column.num_chunks}")
    elements = column.chunk(0)
    return RaggedArrays(
        values=elements.values.to_numpy(zero_copy_only=True),
        offsets=elements.offsets.to_numpy(),
        shapes=tuple(tuple(shape) for shape in shapes.to_pylist()),
    )
