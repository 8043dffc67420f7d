"""A sample of the parts of a run, spread evenly over it, so that a report of any run reads about as much."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, TypeVar

import numpy as np
import pyarrow as pa

from pipeline.formatting import counted
from pipeline.results import Results
from pipeline.sinks.parts import parse_part_key

MAX_PARTS = 64
THREADS = 8  # parts that are read at a time
T = TypeVar("T")


def spread(items: Sequence[T], most: int) -> list[T]:
    """Return at most `most` of the items, spread evenly, among them the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(at)] for at in np.linspace(0, len(items) - 1, most)]


@dataclass(kw_only=True)
class Sample:
    """Sampled parts of a run.

    Attributes:
        total: number of all parts.
        columns: names of their columns.
        rows: number of rows read so far.
        cut: whether a part has more rows than were read.
    """

    results: Results
    parts: Sequence[str]
    total: int
    columns: frozenset[str] = frozenset()
    rows: int = 0
    cut: bool = False

    @classmethod
    def of(cls, results: Results) -> Self:
        """Return a sample of the parts that are committed now."""
        parts = results.parts()
        columns = frozenset(results.schema().names)
        return cls(results=results, parts=spread(parts, MAX_PARTS), total=len(parts), columns=columns)

    def again(self) -> Self:
        """Return the same sample, of which no row is read yet."""
        return replace(self, rows=0, cut=False)

    def has(self, column: str) -> bool:
        """Return whether the parts have a column of that name."""
        return column in self.columns

    def batches(self, columns: Sequence[str], max_rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield (shard, batch) of these columns, the same number of rows from each part, at most `max_rows` in all.

        Some parts are read in parallel, because reading waits for the store.
        """
        per_part = max(1, max_rows // max(1, len(self.parts)))
        with ThreadPoolExecutor(THREADS) as pool:
            for at in range(0, len(self.parts), THREADS):
                keys = self.parts[at : at + THREADS]
                for key, batches in zip(keys, pool.map(partial(self._first, columns, per_part), keys), strict=True):
                    for batch in batches:
                        self.rows += batch.num_rows
                        yield shard_of(key), batch

    def _first(self, columns: Sequence[str], most: int, key: str) -> list[pa.RecordBatch]:
        """Return the first rows of a part, at most so many."""
        found: list[pa.RecordBatch] = []
        for batch in self.results.batches(columns=list(columns), parts=[key]):
            if most == 0:
                self.cut = True
                break
            found.append(batch.slice(0, most))
            self.cut |= batch.num_rows > most
            most -= found[-1].num_rows
        return found

    def numbered_batches(self, columns: Sequence[str], max_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the batches that have rows, with the number of their shard as column `shard`."""
        for shard, batch in self.batches(columns, max_rows):
            if batch.num_rows:
                yield batch.append_column("shard", pa.array(np.full(batch.num_rows, shard)))

    def rows_of(self, columns: Sequence[str], max_rows: int) -> Iterator[dict[str, Any]]:
        """Yield rows, with the number of their shard as `shard`."""
        for shard, batch in self.batches(columns, max_rows):
            for row in batch.to_pylist():
                yield row | {"shard": shard}

    @property
    def note(self) -> str:
        """Return the sentence of the page about what was read."""
        parts = f"{len(self.parts):,} of {self.total:,} parts" if len(self.parts) < self.total else "all parts"
        first = ", the first rows of each" if self.cut else ""
        return f"From {parts} ({counted(self.rows, 'row')}{first})."


def shard_of(key: str) -> int:
    """Return the number of the shard of a part."""
    parsed = parse_part_key(key)
    assert parsed is not None
    return parsed[1]
