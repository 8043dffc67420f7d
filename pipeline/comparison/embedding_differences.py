"""Embeddings of two runs: the cosine of both embeddings of each unit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.comparison.differences import Respect
from pipeline.formatting import count, counted


@dataclass(frozen=True, kw_only=True)
class EmbeddingDifferences:
    """Cosines of the embeddings of the same units.

    Attributes:
        units, same: number of units that were compared, and of those whose embedding is the same.
        unequal: number of units whose embeddings differ in length, are zero or not finite, which have no cosine.
        mean, median, least: of the cosines.
        cosines: float64 [units].
    """

    units: int
    same: int
    unequal: int
    mean: float
    median: float
    least: float
    cosines: np.ndarray

    def describe(self) -> list[str]:
        """Return sentences for people."""
        lines = [f"not compared: {counted(self.unequal, 'unit')} with embeddings of other lengths, zero, or not finite"]
        lines = lines if self.unequal else []
        if not self.units:
            return lines
        return [
            f"embeddings are the same for {count(self.same)} of {counted(self.units, 'unit')}; cosine {self.mean:.4f} "
            f"on average, median {self.median:.4f}, at least {self.least:.4f}",
            *lines,
        ]


class EmbeddingColumns:
    """Compares embeddings. The column of the table is `cosine`; null if there is none."""

    columns: Sequence[str] = ("embedding",)

    def __init__(self, units: int) -> None:
        self._cosines = np.full(units, np.nan)
        self._same = np.zeros(units, bool)

    def add(self, numbers: np.ndarray, a: pa.Table, b: pa.Table) -> None:
        """Compare some units."""
        first, second = (_matrix(table["embedding"]) for table in (a, b))
        if first is None or second is None or first.shape != second.shape:
            return
        self._same[numbers] = (first == second).all(axis=1)
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            self._cosines[numbers] = np.minimum(1.0, (first * second).sum(axis=1) / lengths)

    def found(self) -> EmbeddingDifferences:
        """Return the figures of all units."""
        is_there = np.isfinite(self._cosines)
        some = self._cosines[is_there] if is_there.any() else np.zeros(1)
        return EmbeddingDifferences(
            units=int(is_there.sum()),
            same=int((self._same & is_there).sum()),
            unequal=int((~is_there).sum()),
            mean=float(some.mean()),
            median=float(np.median(some)),
            least=float(some.min()),
            cosines=self._cosines[is_there],
        )

    def respects(self) -> list[Respect]:
        """Return the differences of all units; those without a cosine come first."""
        is_missing = ~np.isfinite(self._cosines)
        columns = {"cosine": pa.array(self._cosines, mask=is_missing)}
        order = np.where(is_missing, np.inf, -self._cosines)
        return [Respect(name="embedding", differs=~self._same, columns=columns, order=order)]


def _matrix(column: pa.ChunkedArray) -> np.ndarray | None:
    """Return embeddings float64 [m, D]; None if their lengths differ."""
    lengths = pc.list_value_length(column)
    if pc.min(lengths) != pc.max(lengths):
        return None
    flat = pc.list_flatten(column).to_numpy().astype(np.float64)
    return flat.reshape(len(column), -1)
