"""Arrow schemas from the columns that a head names, with the features that `datasets` reads beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import pyarrow as pa

from pipeline.sinks.media import MEDIA_ENCODERS

FEATURES = b"huggingface"  # the key under which `datasets` looks for its features

# As heads declare them: a scalar's name, [type] for a list of it, {name: type} for a struct.
ColumnType: TypeAlias = Any

SCALAR_TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "binary": pa.binary(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
}

# A picture, video or sound in its file format, as `datasets` has them too.
MEDIA_STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

# What every row starts with: who it is, where it was, in which version, and of which segment of the plan.
IDENTITY_COLUMNS: Mapping[str, str] = {"id": "string", "uri": "string", "version": "string", "segment": "int32"}


def arrow_type(column: ColumnType) -> pa.DataType:
    """The Arrow type of a column's type: plain lists and strings, which every reader of Parquet knows."""
    if isinstance(column, str):
        if column in MEDIA_ENCODERS:
            return MEDIA_STRUCT
        if column not in SCALAR_TYPES:
            raise ValueError(f"column type {column!r} is none of {', '.join([*SCALAR_TYPES, *MEDIA_ENCODERS])}")
        return SCALAR_TYPES[column]
    if isinstance(column, list):
        return pa.list_(arrow_type(_element(column)))
    return pa.struct([pa.field(name, arrow_type(part)) for name, part in column.items()])


def output_schema(columns: Mapping[str, ColumnType], kept: pa.Schema | None = None) -> pa.Schema:
    """The schema of predictions: identity, the kept columns of the input, the head's own.

    ValueError where a kept column has a name that is taken.
    """
    fields = [pa.field(name, arrow_type(kind)) for name, kind in IDENTITY_COLUMNS.items()]
    fields += list(kept) if kept is not None else []
    fields += [pa.field(name, arrow_type(kind)) for name, kind in columns.items()]
    names = [field.name for field in fields]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"column {twice[0]!r} would stand in the output twice: do not keep it, or rename it")
    return with_features(pa.schema(fields))


def with_features(schema: pa.Schema) -> pa.Schema:
    """The schema with its features in the words of `datasets`, which then needs to guess nothing.

    Those it has are kept. Where a type has no word there, `datasets` is left to find its own.
    """
    metadata = dict(schema.metadata or {})
    features = {field.name: _feature(field.type) for field in schema}
    if FEATURES in metadata or any(feature is None for feature in features.values()):
        return schema
    return schema.with_metadata(metadata | {FEATURES: json.dumps({"info": {"features": features}}).encode()})


def with_plain_types(schema: pa.Schema) -> pa.Schema:
    """The schema with lists, strings and binary of the plain kinds, all the way down."""
    fields = [field.with_type(_plain(field.type)) for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


def to_large_type(kind: pa.DataType) -> pa.DataType:
    """The type with lists, strings and binary of the large kinds, all the way down: a shard may outgrow the others."""
    if _is_list(kind):
        return pa.large_list(kind.value_field.with_type(to_large_type(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(to_large_type(field.type)) for field in kind])
    if pa.types.is_string(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary(kind) else kind


def _plain(kind: pa.DataType) -> pa.DataType:
    if _is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    """Whether it holds lists of any length; readers of Parquet know no views."""
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view, pa.types.is_large_list_view)
    return any(test(kind) for test in tests)


def _feature(kind: pa.DataType) -> Any:
    """The type in JSON, None if there is no word for it. A list is one of its element: every release reads that."""
    if pa.types.is_list(kind):
        element = _feature(kind.value_type)
        return None if element is None else [element]
    if pa.types.is_struct(kind):
        parts = {field.name: _feature(field.type) for field in kind}
        return None if None in parts.values() else parts
    word = _FEATURE_WORDS.get(str(kind), str(kind))
    return {"dtype": word, "_type": "Value"} if _VALUE.fullmatch(word) else None


_FEATURE_WORDS = {
    "double": "float64",
    "float": "float32",
    "halffloat": "float16",
    "date32[day]": "date32",
    "date64[ms]": "date64",
}
_VALUE = re.compile(r"null|bool|u?int\d+|float\d+|string|binary|date\d+|timestamp\[.*\]|time\d+\[.*\]|duration\[.*\]")


def _element(column: list[ColumnType]) -> ColumnType:
    if len(column) != 1:
        raise ValueError(f"a list column names one type of element, not {len(column)}: {column}")
    return column[0]
