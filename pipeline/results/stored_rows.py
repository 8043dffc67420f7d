"""Rows of committed parts as a stream of tables. A row group is read at a time: up to 64 MB, or one larger row."""

from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.formatting import did_you_mean
from pipeline.results.condition import Condition
from pipeline.results.find_units import ID, Places
from pipeline.runtime.errors import UsageError
from pipeline.storage import Store


def read_schema(store: Store, parts: Sequence[str]) -> pa.Schema | None:
    """Return the schema of the first part; None if there are no parts."""
    if not parts:
        return None
    with store.open(parts[0]) as file:
        return pq.read_schema(file).remove_metadata()


def check_columns(columns: Sequence[str], schema: pa.Schema) -> None:
    """Raise UsageError, with the columns that exist, if one does not."""
    for name in columns:
        if name not in schema.names:
            raise UsageError(
                f"column {name!r} must be one of {', '.join(schema.names)}{did_you_mean(name, schema.names)}"
            )


def read_tables(
    store: Store,
    parts: Sequence[str],
    columns: Sequence[str] | None,
    *,
    places: Places | None = None,
    condition: Condition | None = None,
) -> Iterator[pa.Table]:
    """Yield the rows of each row group that has some, in the order of parts.

    columns: None for all. places: row groups with units of interest, from `find_units`; None for all. condition: True
    for the wanted rows.
    """
    for part in parts if places is None else [part for part in parts if part in places.groups]:
        with store.open(part) as source:
            file = pq.ParquetFile(source)
            for group in range(file.num_row_groups) if places is None else places.groups[part]:
                table = _read_group(file, group, columns, None if places is None else places.ids, condition)
                if table.num_rows:
                    yield table


def _read_group(
    file: pq.ParquetFile,
    group: int,
    columns: Sequence[str] | None,
    ids: Collection[str] | None,
    condition: Condition | None,
) -> pa.Table:
    """Return the wanted rows of a row group. Large columns of a row group without any are not read."""
    names = list(file.schema_arrow.names if columns is None else columns)
    if ids is None and condition is None:
        return _plain(file.read_row_group(group, columns=names).select(names))
    first = [*(condition.columns if condition else ()), *([ID] if ids is not None else ())]
    table = file.read_row_group(group, columns=list(dict.fromkeys(first)))
    rows = pa.array(range(table.num_rows), pa.int64()) if condition is None else condition.matching(table)
    if ids is not None:
        rows = rows.filter(pc.is_in(table[ID].take(rows).combine_chunks(), pa.array(list(ids), pa.string())))
    if not len(rows):
        return _plain(file.schema_arrow.empty_table().select(names))
    rest = [name for name in names if name not in table.column_names]
    if rest:
        others = file.read_row_group(group, columns=rest)
        for name in rest:
            table = table.append_column(others.schema.field(name), others[name])
    return _plain(table.select(names).take(rows))


def _plain(table: pa.Table) -> pa.Table:
    """Return the table without the metadata of `datasets`, which names all columns."""
    return table.replace_schema_metadata(None)
