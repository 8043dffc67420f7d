"""Rows of the same units in two runs, side by side, for columns that are too large to hold those of all units.

Up to two row groups of each run are in memory at a time, each of up to 64 MB or one larger row.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.comparison.differences import Respect
from pipeline.comparison.units import GROUP, PART, ROW, JoinedUnits
from pipeline.storage import Store

Place: TypeAlias = tuple[int, int]  # number of a part, row group in it
HELD = 2  # row groups of a run in memory: those of B need not begin where those of A do


class PairedColumns(Protocol):
    """A comparison that reads some columns of both runs, table by table."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns, which both runs have."""

    def add(self, numbers: np.ndarray, a: pa.Table, b: pa.Table) -> None:
        """Compare the rows of the units with these numbers int64 [m]: m rows of A and m rows of B."""

    def respects(self) -> list[Respect]:
        """Return what differs, of all units."""


def compare_columns(units: JoinedUnits, stores: tuple[Store, Store], compared: Sequence[PairedColumns]) -> None:
    """Read the columns of all these comparisons once, and add them to each."""
    columns = list(dict.fromkeys(name for each in compared for name in each.columns))
    if not columns:
        return
    places = [np.stack([table[name].to_numpy() for name in (PART, GROUP, ROW)]) for table in (units.a, units.b)]
    keys = np.concatenate([places[0][:2], places[1][:2]])  # [4, n]: of each unit, its row groups in A and in B
    order = np.lexsort([places[0][2], *keys[::-1]])
    new = np.any(np.diff(keys[:, order], axis=1) != 0, axis=0)
    with ExitStack() as stack:
        readers = [
            stack.enter_context(_Reader(store, parts, columns))
            for store, parts in zip(stores, (units.parts_a, units.parts_b), strict=True)
        ]
        for numbers in np.split(order, np.flatnonzero(new) + 1):
            tables = [
                _rows(reader.read((int(place[0, numbers[0]]), int(place[1, numbers[0]]))), place[2, numbers])
                for reader, place in zip(readers, places, strict=True)
            ]
            for each in compared:
                each.add(numbers, *tables)


def in_order(numbers: Sequence[np.ndarray], values: Sequence[pa.Array]) -> pa.ChunkedArray:
    """Return values that were found table by table in the order of the numbers of their units."""
    return pa.chunked_array(values).take(pa.array(np.argsort(np.concatenate(numbers))))


def _rows(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Return some rows, without a copy if they are all."""
    is_all = len(rows) == table.num_rows and bool((np.diff(rows) == 1).all())
    return table if is_all else table.take(pa.array(rows))


@dataclass
class _Reader:
    """Row groups of a run. The latest ones, and the file of the latest part, are kept."""

    store: Store
    parts: Sequence[str]
    columns: Sequence[str]
    _held: dict[Place, pa.Table] = field(default_factory=dict)
    _part: int = -1
    _open: ExitStack = field(default_factory=ExitStack)
    _file: pq.ParquetFile | None = None

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def read(self, place: Place) -> pa.Table:
        """Return the columns of a row group."""
        if place not in self._held:
            while len(self._held) >= HELD:
                self._held.pop(next(iter(self._held)))
            table = self._part_file(place[0]).read_row_group(place[1], columns=list(self.columns))
            self._held[place] = table.replace_schema_metadata(None)
        return self._held[place]

    def _part_file(self, part: int) -> pq.ParquetFile:
        if self._file is None or part != self._part:
            self._open.close()
            source = self._open.enter_context(self.store.open(self.parts[part]))
            self._file, self._part = pq.ParquetFile(source), part
        return self._file
