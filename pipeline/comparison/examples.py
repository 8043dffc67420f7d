"""Units that differ most, with their rows of both runs, for the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.comparison.differences import BOTH
from pipeline.comparison.units import PART, JoinedUnits
from pipeline.originals.originals import UnitRef
from pipeline.report.sample import shard_of
from pipeline.results import Results


@dataclass(frozen=True, kw_only=True)
class Example:
    """A unit of both runs: its row of the table of differences, and its rows with the columns that were asked for."""

    unit: UnitRef
    difference: dict[str, Any]
    a: dict[str, Any]
    b: dict[str, Any]


class Examples:
    """Reads rows of single units of both runs.

    `table`: the differences. `units`: where the rows are.
    """

    def __init__(self, table: pa.Table, units: JoinedUnits, a: Results, b: Results) -> None:
        self._table = table.filter(pc.equal(table["runs"], BOTH))
        self._units = units
        self._runs = (a, b)

    def first(self, most: int, respect: str, columns: Sequence[str] = (), order: str = "") -> list[Example]:
        """Return the first units that differ in a respect, and rows with these columns.

        order: Column with numbers, the greatest of which come first; "" for the order of the table.
        """
        names = self._table["changed"].combine_chunks()
        numbers = pc.list_parent_indices(names).filter(pc.equal(pc.list_flatten(names), respect))
        chosen = self._table.take(numbers)
        if order:
            distances = pc.abs(chosen[order])
            chosen = chosen.take(pc.select_k_unstable(distances, min(most, len(distances)), [("x", "descending")]))
        return list(self._read(chosen.slice(0, most), columns))

    def _read(self, chosen: pa.Table, columns: Sequence[str]) -> Iterator[Example]:
        """Yield the units of rows of the table."""
        ids = chosen["id"].to_pylist()
        rows = pc.index_in(chosen["id"], value_set=self._units.ids.combine_chunks())
        keys = [
            [parts[part] for part in table[PART].take(rows).to_pylist()]
            for table, parts in ((self._units.a, self._units.parts_a), (self._units.b, self._units.parts_b))
        ]
        of_runs = [
            {row["id"]: row for row in run.rows(["id", "uri", *columns], ids=ids, parts=sorted(set(own)))}
            for run, own in zip(self._runs, keys, strict=True)
            if ids
        ]
        for unit_id, key, difference in zip(ids, keys[0], chosen.to_pylist(), strict=True):
            first, second = (rows_of[unit_id] for rows_of in of_runs)
            unit = UnitRef(unit_id, first["uri"], shard_of(key))
            yield Example(unit=unit, difference=difference, a=first, b=second)
