"""Encoding of tables as Parquet files that every reader supports."""

import io
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sinks.schema import with_features, with_plain_types

ROW_GROUP_BYTES = 64 << 20


def encode_parquet(table: pa.Table, metadata: Mapping[bytes, bytes]) -> bytes:
    """Encode a table as Parquet: zstd, floats without a dictionary, row groups limited by bytes.

    The same rows and metadata give the same bytes. Large lists and strings become plain ones, which every reader
    supports. metadata: of the file.
    """
    schema = with_features(with_plain_types(table.schema))
    leaves = [leaf for field in schema for leaf in _leaves(field.name, field.type)]
    # Floats rarely repeat: a dictionary would not pay. Byte stream split would save 27 % of float16 too, but DuckDB
    # (1.4, 2.0) does not read it.
    others = [path for path, kind in leaves if not pa.types.is_floating(kind)]
    split = [path for path, kind in leaves if pa.types.is_float32(kind) or pa.types.is_float64(kind)]
    file = io.BytesIO()
    with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=others, use_byte_stream_split=split) as sink:
        for group in _row_groups(table.combine_chunks()):  # the same file for any chunks of the table
            sink.write_table(group.cast(schema), row_group_size=group.num_rows)
        sink.add_key_value_metadata(dict(metadata))  # in the file, not in the schema, which readers keep
    return file.getvalue()


def _row_groups(table: pa.Table) -> Iterator[pa.Table]:
    """Halve the table until each slice fits a row group or has one row.

    An empty table has no row group: `datasets` uses the rows of the first one as batch size, which must not be 0.
    """
    if table.num_rows > 1 and table.nbytes > ROW_GROUP_BYTES:
        half = table.num_rows // 2
        yield from _row_groups(table.slice(0, half))
        yield from _row_groups(table.slice(half))
    elif table.num_rows:
        yield table


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Yield the Parquet path and the type of each column that a column is stored as."""
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path, kind
