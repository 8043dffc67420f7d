"""Units of two runs, joined by id: where the latest row of each is, and the small columns that are compared."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.labelling.labelled_rows import last_rows
from pipeline.results import Results
from pipeline.runtime.errors import UsageError
from pipeline.storage import Store

THREADS = 8  # parts that are read at a time
URI, VERSION = "uri", "version"
PART, GROUP, ROW = "_part", "_group", "_row"  # where a row is: number of the part, row group in it, row in that


@dataclass(frozen=True, kw_only=True)
class RunUnits:
    """The latest row of each unit of a run.

    Attributes:
        parts: keys of the parts.
        rows: `id`, hashes of `uri` and `version`, the columns that were read, and the place of the row.
    """

    parts: Sequence[str]
    rows: pa.Table


@dataclass(frozen=True, kw_only=True)
class JoinedUnits:
    """Units that have a row in both runs, in the order of A, and the ids of the others.

    Attributes:
        a, b: n rows each, of the same units, as in `RunUnits`.
        parts_a, parts_b: keys of the parts.
        only_a, only_b: ids of units with a row in one run.
    """

    a: pa.Table
    b: pa.Table
    parts_a: Sequence[str]
    parts_b: Sequence[str]
    only_a: pa.Array
    only_b: pa.Array

    @property
    def ids(self) -> pa.ChunkedArray:
        """Ids of the n units."""
        return self.a["id"]


def join_units(of_a: RunUnits, of_b: RunUnits) -> JoinedUnits:
    """Join the units of two runs by id. UsageError if none is in both."""
    a, b = of_a.rows, of_b.rows
    places = pc.index_in(a["id"], value_set=b["id"].combine_chunks()).combine_chunks()
    is_common = places.is_valid()
    if not pc.any(is_common).as_py():
        raise UsageError(
            "the runs have no unit in common, so that nothing can be compared: ids of A look like "
            f"{a['id'][0].as_py()!r}, those of B like {b['id'][0].as_py()!r}. Compare runs over the same INPUT"
        )
    in_b = np.zeros(b.num_rows, bool)
    in_b[places.drop_null().to_numpy()] = True
    return JoinedUnits(
        a=a.filter(is_common),
        b=b.take(places.drop_null()),
        parts_a=of_a.parts,
        parts_b=of_b.parts,
        only_a=a["id"].filter(pc.invert(is_common)).combine_chunks(),
        only_b=b["id"].filter(pa.array(~in_b)).combine_chunks(),
    )


def read_units(results: Results, columns: Sequence[str]) -> RunUnits:
    """Return the latest row of each unit of a run, with these columns. Memory: about 60 bytes per row and the ids.

    UsageError if there are no rows.
    """
    parts = results.parts()
    read = partial(_read_part, results.store, columns)
    with ThreadPoolExecutor(THREADS) as pool:
        tables = list(pool.map(read, range(len(parts)), parts))
    if not sum(table.num_rows for table in tables):
        raise UsageError(f"{results.store.uri} has no rows yet: there is nothing to compare")
    table = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries().combine_chunks()
    latest = last_rows(table["id"])
    rows = table if len(latest) == table.num_rows else table.take(pa.array(latest))
    return RunUnits(parts=parts, rows=rows)


def _read_part(store: Store, columns: Sequence[str], number: int, key: str) -> pa.Table:
    """Return the rows of a part, texts as hashes or, where they repeat, with a dictionary."""
    with store.open(key) as source:
        file = pq.ParquetFile(source)
        table = file.read(columns=["id", URI, VERSION, *columns]).replace_schema_metadata(None)
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    found = {"id": table["id"].cast(pa.large_string())}
    found |= {name: _hashes(table[name]) for name in (URI, VERSION)}
    for name in columns:
        is_text = pa.types.is_string(table[name].type)
        found[name] = table[name].dictionary_encode() if is_text else table[name]
    found[PART] = np.full(table.num_rows, number, np.int32)
    found[GROUP] = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    found[ROW] = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes] or [np.zeros(0, np.int32)])
    return pa.table(found)


def _hashes(column: pa.ChunkedArray) -> np.ndarray:
    """Return 64-bit hashes int64 [n] that are equal for equal texts in this process."""
    return np.fromiter(map(hash, column.to_pylist()), np.int64, len(column))
