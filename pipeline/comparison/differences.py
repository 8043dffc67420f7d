"""The table of differences: a row for each unit that differs, the one that differs most first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.comparison.units import JoinedUnits

BOTH, ONLY_A, ONLY_B = "A and B", "A", "B"


@dataclass(frozen=True, kw_only=True)
class Respect:
    """One respect in which the rows of n units may differ, such as their label.

    Attributes:
        name: as the column `changed` has it.
        differs: bool [n].
        columns: columns of the table about it, n values each.
        order: float64 [n], greater for units that differ more; None if another respect orders the table.
    """

    name: str
    differs: np.ndarray
    columns: Mapping[str, Any] = field(default_factory=dict)
    order: np.ndarray | None = None


def differences_table(units: JoinedUnits, respects: Sequence[Respect]) -> pa.Table:
    """Return the units that differ in some respect, and those that only one run has, at the end.

    Columns: id; runs, "A and B", "A" or "B"; changed, the names of the respects; and those of the respects.
    """
    flags = np.stack([each.differs for each in respects], axis=1)  # [n, respects]
    orders = [each.order for each in reversed(respects) if each.order is not None]
    ranked = np.lexsort([np.arange(len(flags)), *(-order for order in orders)])
    chosen = ranked[np.any(flags[ranked], axis=1)]
    columns = {"id": units.ids, "runs": pa.repeat(BOTH, len(flags)), "changed": _names_of(respects, flags)}
    columns |= {name: values for each in respects for name, values in each.columns.items()}
    table = pa.table(columns).take(pa.array(chosen))
    others = [
        pa.table({"id": ids, "runs": pa.repeat(run, len(ids))})
        for ids, run in ((units.only_a, ONLY_A), (units.only_b, ONLY_B))
    ]
    return pa.concat_tables([table, *others], promote_options="default").combine_chunks()


def _names_of(respects: Sequence[Respect], flags: np.ndarray) -> pa.ListArray:
    """Return for each unit the list of names of the respects in which it differs, of flags bool [n, respects]."""
    offsets = np.concatenate([[0], np.cumsum(flags.sum(axis=1))]).astype(np.int32)
    names = pa.array([each.name for each in respects]).take(pa.array(np.nonzero(flags)[1]))
    return pa.ListArray.from_arrays(pa.array(offsets), names)
