"""A Ray Dataset of the rows in committed parts, which its tasks read through the project's own storage."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from pipeline.storage import Store

Dataset: TypeAlias = ray.data.Dataset


def parts_dataset(store: Store, parts: Sequence[str], columns: Sequence[str] | None = None) -> Dataset:
    """Return the rows as a dataset, with a block per row group of a part. Starts Ray unless it runs.

    columns: None for all.
    """
    if not parts:
        return ray.data.from_arrow(pa.table({}))
    keys = ray.data.from_arrow([pa.table({"part": [part]}) for part in parts])
    read = partial(_read, store=store, columns=columns)
    return keys.map_batches(read, batch_size=1, batch_format="pyarrow", zero_copy_batch=True)


def _read(keys: pa.Table, *, store: Store, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    for part in keys["part"].to_pylist():
        with store.open(part) as source:
            file = pq.ParquetFile(source)
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=columns).replace_schema_metadata(None)
            if not file.num_row_groups:
                yield file.schema_arrow.remove_metadata().empty_table().select(columns or file.schema_arrow.names)
