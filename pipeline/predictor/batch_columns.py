"""Batches of columns as Ray Data gives them: dicts of arrays, pandas DataFrames and Arrow tables."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.media import MediumKind
from pipeline.runtime.errors import UsageError

_CONTENT: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "bytes"),
    "frame_pair": ("video", "bytes"),
    "clip": ("video", "bytes"),
    "text": ("text",),
    "array": ("inputs",),
}
_PATH = "path"
_FILES = frozenset({"image", "frame_pair", "clip"})  # media that a path can name


def is_batch(value: Any) -> bool:
    """Return whether a value is a batch of columns, rather than a list of items."""
    return isinstance(value, Mapping | pa.Table) or _is_frame(value)


def names_of(batch: Any) -> list[str]:
    """Return the names of the columns."""
    return list(batch.column_names if isinstance(batch, pa.Table) else batch)


def find_columns(names: Sequence[str], medium: MediumKind, column: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns that hold the items: one, or two for image pairs, and for frames and samples of clips.

    column: Names that the user gives, two of them separated by a comma; None finds a column by the names image, video,
    bytes, text or inputs, or path if there is none with a content. Raise UsageError if there is none or more than one.
    """
    if column is not None:
        given = tuple(name.strip() for name in column.split(",")) if isinstance(column, str) else tuple(column)
        if missing := [name for name in given if name not in names]:
            raise UsageError(f"column {missing[0]!r} not found; the batch has {', '.join(names)}")
        if len(given) > (2 if medium in ("frame_pair", "clip") else 1):
            raise UsageError(f"column ({','.join(given)}) must name one column that holds {_noun(medium)}")
        return given
    usual = _CONTENT[medium]
    found = [name for name in usual if name in names]
    if not found and medium in _FILES and _PATH in names:
        found = [_PATH]
    if len(found) != 1:
        expected = " or ".join([*usual, _PATH] if medium in _FILES else usual)
        problem = f"{' and '.join(found)} can both hold" if found else f"no column {expected} holds"
        raise UsageError(f"{problem} {_noun(medium)}: name the column with column=…; the batch has {', '.join(names)}")
    return (found[0],)


def items_of(batch: Any, columns: Sequence[str]) -> list[Any]:
    """Return the items in one column, or tuples of those in two."""
    values = [_values(batch, name) for name in columns]
    return values[0] if len(values) == 1 else list(zip(*values, strict=True))


def joined(batch: Any, names: Mapping[str, str], owners: Sequence[int], added: pa.Table) -> Any:
    """Return a batch of the same kind with the rows `owners` of its own columns, renamed, next to the added ones.

    In a dict the added columns are Arrow arrays, of which Ray Data keeps the types.
    """
    rows = None if list(owners) == list(range(_length(batch))) else np.array(owners, np.int64)
    if isinstance(batch, pa.Table):
        table = (batch if rows is None else batch.take(rows)).rename_columns(list(names.values()))
        for field in added.schema:
            table = table.append_column(field, added[field.name])
        return table
    if _is_frame(batch):
        pandas = sys.modules["pandas"]
        frame = (batch if rows is None else batch.iloc[rows]).rename(columns=dict(names))
        columns = added.to_pandas(types_mapper=pandas.ArrowDtype).set_index(frame.index)
        return pandas.concat([frame, columns], axis=1)
    own = {new: batch[name] if rows is None else _taken(batch[name], rows) for name, new in names.items()}
    return own | {name: _array(added[name]) for name in added.column_names}


def _is_frame(value: Any) -> bool:
    pandas = sys.modules.get("pandas")  # it is loaded if there is a DataFrame
    return pandas is not None and isinstance(value, pandas.DataFrame)


def _values(batch: Any, name: str) -> list[Any]:
    column = batch[name]
    if isinstance(column, pa.ChunkedArray) and isinstance(column.type, pa.FixedShapeTensorType):
        return [image for chunk in column.chunks for image in chunk.to_numpy_ndarray()]
    return column.to_pylist() if isinstance(column, pa.ChunkedArray) else list(column)


def _length(batch: Any) -> int:
    if isinstance(batch, pa.Table):
        return int(batch.num_rows)
    return len(batch) if _is_frame(batch) else len(next(iter(batch.values())))


def _taken(values: Any, rows: np.ndarray) -> Any:
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]


def _array(column: pa.ChunkedArray) -> Any:
    """Return a column for a dict. Lists of numbers are one Arrow array per row, unless some rows are null.

    Ray Data joins such arrays at once; it looks at each number of an array of lists, which takes seconds per million.
    """
    kind = column.type
    if pa.types.is_list(kind) and pa.types.is_floating(kind.value_type) and len(column) and not column.null_count:
        return [cell.values for cell in column]
    return column


def _noun(medium: MediumKind) -> str:
    nouns = {"image": "the images", "frame_pair": "the videos or image pairs", "clip": "the videos"}
    return nouns.get(medium, f"the {medium}s")
