"""Arrow schemas of the columns that heads declare, with feature metadata for `datasets`."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import pyarrow as pa

from pipeline.sinks.media import MEDIA_ENCODERS, medium_name

FEATURES = b"huggingface"  # metadata key of the features of `datasets`

# As heads declare them: the name of a scalar type, [type] for a list, {name: type} for a struct.
ColumnType: TypeAlias = Any

SCALAR_TYPES = ("string", "binary", "bool", "int32", "int64", "float16", "float32", "float64")

# An image, video or audio file, in the representation of `datasets`.
MEDIA_STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

# The first columns of every row. segment: number of the plan's segment.
IDENTITY_COLUMNS: Mapping[str, str] = {"id": "string", "uri": "string", "version": "string", "segment": "int32"}
KEPT_COLUMN_PREFIX = "input_"  # of kept columns that have the name of another output column


def arrow_type(column: ColumnType, medium: pa.DataType = MEDIA_STRUCT) -> pa.DataType:
    """Return the Arrow type of a declared type: plain lists and strings, which every Parquet reader supports.

    medium: Type of each image, video and audio file.
    """
    if isinstance(column, dict):
        return pa.struct([pa.field(name, arrow_type(part, medium)) for name, part in column.items()])
    if isinstance(column, list):
        if len(column) != 1:
            raise ValueError(f"a list column must name one element type, not {len(column)}: {column}")
        return pa.list_(arrow_type(column[0], medium))
    if medium_name(column) not in (*SCALAR_TYPES, *MEDIA_ENCODERS):
        raise ValueError(f"column type {column!r} must be one of {', '.join([*SCALAR_TYPES, *MEDIA_ENCODERS])}")
    return medium if medium_name(column) in MEDIA_ENCODERS else pa.type_for_alias(column)


def kept_names(
    columns: Mapping[str, ColumnType], kept: Iterable[str], identity: Iterable[str] = IDENTITY_COLUMNS
) -> dict[str, str]:
    """Return the names in the output of kept input columns: `input_label` if the head writes a column `label`.

    identity: Other columns of the output. ValueError if a column is kept twice.
    """
    kept = list(kept)
    if twice := sorted({name for name in kept if kept.count(name) > 1}):
        raise ValueError(
            f"column {twice[0]!r} would be in the output twice: remove it from keep_columns, or rename it in INPUT"
        )
    written = {*identity, *columns}
    names = {}
    for name in kept:
        new = name
        while new in written or (new != name and new in kept):
            new = KEPT_COLUMN_PREFIX + new
        names[name] = new
    return names


def output_schema(columns: Mapping[str, ColumnType], kept: pa.Schema | None = None) -> pa.Schema:
    """Return the schema of predictions: identity, kept input columns named by `kept_names`, the head's columns."""
    kept = kept or pa.schema([])
    identity, predicted = (
        [pa.field(name, arrow_type(kind)) for name, kind in group.items()] for group in (IDENTITY_COLUMNS, columns)
    )
    names = kept_names(columns, kept.names)
    return with_features(pa.schema([*identity, *(field.with_name(names[field.name]) for field in kept), *predicted]))


def with_features(schema: pa.Schema) -> pa.Schema:
    """Return the schema with feature metadata for `datasets`.

    Unchanged if it has such metadata, or if `datasets` has no feature for one of its types.
    """
    metadata = dict(schema.metadata or {})
    features = {field.name: _feature(field.type) for field in schema}
    if FEATURES in metadata or any(feature is None for feature in features.values()):
        return schema
    return schema.with_metadata(metadata | {FEATURES: json.dumps({"info": {"features": features}}).encode()})


def with_plain_types(schema: pa.Schema) -> pa.Schema:
    """Return the schema with plain instead of large lists, strings and binaries, at every depth."""
    fields = [field.with_type(_convert(field.type, pa.list_, _PLAIN)) for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


def to_large_type(kind: pa.DataType) -> pa.DataType:
    """Return the type with large lists, strings and binaries, at every depth: a shard may exceed 2³¹ elements."""
    return _convert(kind, pa.large_list, _LARGE)


_LARGE = {"string": pa.large_string(), "binary": pa.large_binary()}
_PLAIN = dict.fromkeys(("large_string", "string_view"), pa.string())
_PLAIN |= dict.fromkeys(("large_binary", "binary_view"), pa.binary())
_LISTS = (pa.ListType, pa.LargeListType, pa.ListViewType, pa.LargeListViewType)


def _convert(kind: pa.DataType, to_list: Callable[..., pa.DataType], leaves: Mapping[str, pa.DataType]) -> pa.DataType:
    """Return the type with other lists of variable length and other leaves, at every depth."""
    if isinstance(kind, _LISTS):
        return to_list(kind.value_field.with_type(_convert(kind.value_type, to_list, leaves)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_convert(field.type, to_list, leaves)) for field in kind])
    return leaves.get(str(kind), kind)


def _feature(kind: pa.DataType) -> Any:
    """Return the feature as JSON, None if there is none. A list is [element], which every release of datasets reads."""
    if pa.types.is_list(kind):
        element = _feature(kind.value_type)
        return None if element is None else [element]
    if pa.types.is_struct(kind):
        parts = {field.name: _feature(field.type) for field in kind}
        return None if None in parts.values() else parts
    name = _FEATURE_NAMES.get(str(kind), str(kind))
    return {"dtype": name, "_type": "Value"} if _VALUE.fullmatch(name) else None


_FEATURE_NAMES = {"double": "float64", "float": "float32", "halffloat": "float16"}
_FEATURE_NAMES |= {"date32[day]": "date32", "date64[ms]": "date64"}
_VALUE = re.compile(r"null|bool|u?int\d+|float\d+|string|binary|date\d+|timestamp\[.*\]|time\d+\[.*\]|duration\[.*\]")
