"""Arrow schemas from the columns that a head names, with the features that `datasets` reads beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import pyarrow as pa

# As heads declare them: a scalar's name, [type] for a list of it, {name: type} for a struct.
ColumnType: TypeAlias = Any

SCALARS: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "binary": pa.binary(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
}

# What every row starts with: who it is, where it was, in which version, and of which segment of the plan.
IDENTITY: Mapping[str, str] = {"id": "string", "uri": "string", "version": "string", "segment": "int32"}


def arrow_type(column: ColumnType) -> pa.DataType:
    """The Arrow type of a column's type: plain lists and strings, which every reader of Parquet knows."""
    if isinstance(column, str):
        if column not in SCALARS:
            raise ValueError(f"column type {column!r} is none of {', '.join(SCALARS)}")
        return SCALARS[column]
    if isinstance(column, list):
        return pa.list_(arrow_type(_element(column)))
    return pa.struct([pa.field(name, arrow_type(part)) for name, part in column.items()])


def output_schema(columns: Mapping[str, ColumnType], kept: pa.Schema | None = None) -> pa.Schema:
    """The schema of predictions: identity, the kept columns of the input, the head's own.

    ValueError where a kept column has a name that is taken.
    """
    fields = [pa.field(name, arrow_type(kind)) for name, kind in IDENTITY.items()]
    fields += list(kept) if kept is not None else []
    fields += [pa.field(name, arrow_type(kind)) for name, kind in columns.items()]
    names = [field.name for field in fields]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"column {twice[0]!r} would stand in the output twice: do not keep it, or rename it")
    schema = pa.schema(fields)
    return schema.with_metadata({b"huggingface": features_json(schema)})


def features_json(schema: pa.Schema) -> bytes:
    """The schema in the words of `datasets`, which then needs to guess nothing."""
    features = {field.name: _feature(field.type) for field in schema}
    return json.dumps({"info": {"features": features}}).encode()


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_large_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "LargeList"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": _DATASETS_NAMES.get(str(kind), str(kind)), "_type": "Value"}


_DATASETS_NAMES = {"double": "float64", "float": "float32", "halffloat": "float16"}


def _element(column: list[ColumnType]) -> ColumnType:
    if len(column) != 1:
        raise ValueError(f"a list column names one type of element, not {len(column)}: {column}")
    return column[0]
