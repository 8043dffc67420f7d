"""Columns of Arrow tables: checks of their types, and conversion of their values to Python.

No value is ever unpickled: columns whose type would do so are refused before a row is read.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

from pipeline.media import MediumKind
from pipeline.sources.records.record_reader import RecordRequest
from pipeline.sources.source import ColumnMismatch, NoMediumColumn, missing_column
from pipeline.storage import AccessError

_PICKLED = frozenset({"ray.data.arrow_pickled_object", "arrow.py_extension_type"})
"""Extension types whose values are pickles: reading one runs code of whoever wrote it."""

_PLAIN = ("arrow.", "datasets.features.")
"""Prefixes of extension types that are read as their storage type."""

_BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
_STRING_IDS = {kind.id for kind in _BYTES}
_BYTES_IDS = {kind.id for kind in (*_BYTES.values(), pa.binary(1))}
_EXTENSION = b"ARROW:extension:name"


def check_columns(uri: str, schema: pa.Schema, request: RecordRequest) -> None:
    """Raise AccessError if a requested column is missing or has a type that cannot hold what is requested of it."""
    check_safe(uri, schema)
    for name in request.medium_columns:
        _check_medium(uri, name, _check_column(uri, schema, name, NoMediumColumn), request)
    for name in request.identity.values():
        if types.is_nested(kind := _check_column(uri, schema, name)):
            raise ColumnMismatch(f"{uri}: column {name!r} must hold ids, got {kind}")
    for name in request.options.keep:
        if name in request.required_keep or name in schema.names:
            _check_column(uri, schema, name)


def check_safe(uri: str, schema: pa.Schema) -> None:
    """Raise AccessError if a column, at any depth, has a type whose values are pickles."""
    for column in schema:
        pickled = next((name for field in _nested(column) if (name := _extension(field)) in _PICKLED), None)
        if pickled is not None:
            raise AccessError(
                f"{uri}: column {column.name!r} has the type {pickled}: its values are pickles, which run code "
                "when they are read. Write the table again without it"
            )


def _check_column(uri: str, schema: pa.Schema, name: str, kind: type[ColumnMismatch] = ColumnMismatch) -> pa.DataType:
    """Return the storage type of a column. Raise AccessError if there is none, or two, or its type is unsupported."""
    found = schema.get_all_field_indices(name)
    if not found:
        raise missing_column(uri, name, schema.names, kind)
    if len(found) > 1:
        raise AccessError(f"{uri}: {len(found)} columns are named {name!r}; names must be unique")
    extension = _extension(schema.field(found[0]))
    if extension is not None and not extension.startswith(_PLAIN):
        raise AccessError(
            f"{uri}: column {name!r} has the type {extension}, which is not supported: store it as a plain type"
        )
    stored_as = schema.field(found[0]).type
    while isinstance(stored_as, pa.BaseExtensionType) or types.is_dictionary(stored_as):
        stored_as = stored_as.storage_type if isinstance(stored_as, pa.BaseExtensionType) else stored_as.value_type
    return stored_as


def _check_medium(uri: str, name: str, kind: pa.DataType, request: RecordRequest) -> None:
    """Raise AccessError if a column of this type cannot hold the medium."""
    special: dict[MediumKind, tuple[Callable[[pa.DataType], bool], str]] = {
        "text": (_is_text, "text"),
        "array": (_is_matrix, "an array of two dimensions"),
    }
    files = (_is_file, "videos" if request.holds_videos else "images")
    fits, expected = special.get(request.options.medium, files)
    if not types.is_null(kind) and not fits(kind):
        raise ColumnMismatch(f"{uri}: column {name!r} must hold {expected}, got {kind}")


def kept_fields(uri: str, schema: pa.Schema, request: RecordRequest) -> list[pa.Field]:
    """Return the fields of kept columns, strings for those of the file's folders.

    Raise AccessError if one is missing or cannot be written as Parquet.
    """
    in_file = request.columns_in(schema)
    fields = [
        pa.field(name, _check_column(uri, schema, name) if name in in_file else pa.string())
        for name in request.options.keep
    ]
    for field in fields:
        try:
            pq.write_table(pa.schema([field]).empty_table(), pa.BufferOutputStream())
        except pa.ArrowException:
            reason = f"has the type {field.type}, which Parquet does not support: remove it from keep_columns"
            raise AccessError(f"{uri}: column {field.name!r} {reason}") from None
    return fields


def stored(column: pa.Array) -> pa.Array:
    """Return a column with its storage type, dictionaries decoded.

    Raise ValueError if offsets of a damaged column lead out of its memory: Arrow would follow them.
    """
    as_bytes = _BYTES.get(column.type)  # invalid UTF-8 is not damage
    (column if as_bytes is None else column.view(as_bytes)).validate(full=True)
    while isinstance(column.type, pa.BaseExtensionType) or types.is_dictionary(column.type):
        column = column.storage if isinstance(column.type, pa.BaseExtensionType) else column.dictionary_decode()
    return column


def has_dictionary(schema: pa.Schema) -> bool:
    """Return whether a column, at any depth, has its values in a dictionary outside the record batches."""
    return any(types.is_dictionary(field.type) for column in schema for field in _nested(column))


def to_value(scalar: pa.Scalar) -> Any:
    """Return a value as Python has it.

    Bytes that are not UTF-8 become surrogates. Lists of numbers, and lists of such lists of one length, become arrays.
    """
    if scalar.is_valid and _is_string(scalar.type):
        return scalar.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")
    if scalar.is_valid and _is_matrix(scalar.type):
        rows = scalar.values
        values, lengths = rows.flatten(), pc.list_value_length(rows).unique()
        if len(lengths) == 1 and not values.null_count and not rows.null_count:
            return values.to_numpy(zero_copy_only=False).reshape(len(rows), -1)
    if scalar.is_valid and _is_vector(scalar.type) and not scalar.values.null_count:
        return scalar.values.to_numpy(zero_copy_only=False)
    return scalar.as_py()


def to_kept(scalar: pa.Scalar) -> Any:
    """Return a value as Python has it, or the scalar if Python cannot hold it: Python's times are those of the years 1
    to 9999, in microseconds."""
    if not any(types.is_temporal(field.type) for field in _nested(pa.field("", scalar.type))):
        return to_value(scalar) if _is_string(scalar.type) else scalar.as_py()
    try:
        value = scalar.as_py()
        return value if pa.scalar(value, scalar.type).equals(scalar) else scalar
    except (ValueError, OverflowError, pa.ArrowException):
        return scalar


def _extension(field: pa.Field) -> str | None:
    """Return the name of a field's extension type, registered in this process or not."""
    if isinstance(field.type, pa.BaseExtensionType):
        return str(field.type.extension_name)
    name = (field.metadata or {}).get(_EXTENSION)
    return name.decode(errors="replace") if name is not None else None


def _nested(field: pa.Field) -> Iterator[pa.Field]:
    """Yield a field and the fields nested in it."""
    yield field
    kind = field.type
    if isinstance(kind, pa.BaseExtensionType):
        yield from _nested(pa.field("", kind.storage_type))
    elif types.is_dictionary(kind):
        yield from _nested(pa.field("", kind.value_type))
    else:
        for index in range(kind.num_fields):
            yield from _nested(kind.field(index))


def _is_string(kind: pa.DataType) -> bool:
    return kind.id in _STRING_IDS


def _is_bytes(kind: pa.DataType) -> bool:
    return kind.id in _BYTES_IDS


def _is_text(kind: pa.DataType) -> bool:
    return _is_string(kind) or _is_bytes(kind)


def _is_list(kind: pa.DataType) -> bool:
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_vector(kind: pa.DataType) -> bool:
    """Return whether a type is lists of numbers."""
    return _is_list(kind) and (types.is_integer(kind.value_type) or types.is_floating(kind.value_type))


def _is_matrix(kind: pa.DataType) -> bool:
    """Return whether a type is lists of lists of numbers."""
    return _is_list(kind) and _is_vector(kind.value_type)


def _is_file(kind: pa.DataType) -> bool:
    """Return whether a type can hold images or videos: bytes, a path, or a struct of both as `datasets` writes it."""
    if not types.is_struct(kind):
        return _is_text(kind)
    inner = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
    fits = {"bytes": _is_bytes, "path": _is_string}
    return any(name in inner and (fits[name](inner[name]) or types.is_null(inner[name])) for name in fits)
