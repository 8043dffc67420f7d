"""Flow of two runs: the end-point difference of each unit, the length of the difference of the motion vectors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.comparison.differences import Respect
from pipeline.formatting import count, counted

PERCENTILE = 95.0
_FIGURES = ("end_point_mean", "end_point_p95", "motion_a", "motion_b")


@dataclass(frozen=True, kw_only=True)
class FlowDifferences:
    """End-point differences, in pixels.

    Attributes:
        units, same: number of units that were compared, and of those whose flow is the same.
        unequal: number of units whose frames or points differ between the runs, which are not compared.
        mean, median, most: of the mean end-point difference of the units.
        motion_a, motion_b: mean length of the motion.
        means: float64 [units], mean end-point difference of each.
    """

    units: int
    same: int
    unequal: int
    mean: float
    median: float
    most: float
    motion_a: float
    motion_b: float
    means: np.ndarray

    def describe(self) -> list[str]:
        """Return sentences for people."""
        unequal = f"not compared: {counted(self.unequal, 'unit')} with other frames or points in B"
        lines = [unequal] if self.unequal else []
        if not self.units:
            return lines
        return [
            f"flow is the same for {count(self.same)} of {counted(self.units, 'unit')}; mean end-point difference "
            f"{self.mean:.3g} px, median {self.median:.3g}, at most {self.most:.3g}",
            f"mean motion {self.motion_a:.3g} px in A, {self.motion_b:.3g} in B",
            *lines,
        ]


class FlowColumns:
    """Compares flow of whole frames, or of points, unit by unit.

    The columns of the table are in pixels: mean and 95th percentile of the end-point difference over the pixels, and
    the mean length of the motion in each run; null if frames or points differ.
    """

    def __init__(self, units: int, columns: frozenset[str]) -> None:
        self.columns: Sequence[str] = ["flow", "height", "width", *(["points"] if "points" in columns else [])]
        self._figures = np.full((len(_FIGURES), units), np.nan)
        self._same = np.zeros(units, bool)

    def add(self, numbers: np.ndarray, a: pa.Table, b: pa.Table) -> None:
        """Compare some units."""
        shapes = [name for name in self.columns if name != "flow"]
        of_a, of_b = (table.select(shapes).to_pylist() for table in (a, b))
        for number, place, flow_a, flow_b in zip(numbers, range(len(numbers)), a["flow"], b["flow"], strict=True):
            first, second = (_vectors(flow) for flow in (flow_a, flow_b))
            if of_a[place] == of_b[place] and first.shape == second.shape:
                distances = np.hypot(*(second - first).T)
                figures = distances.mean(), np.percentile(distances, PERCENTILE)
                self._figures[:, number] = *figures, np.hypot(*first.T).mean(), np.hypot(*second.T).mean()
                self._same[number] = not distances.any()

    def found(self) -> FlowDifferences:
        """Return the figures of all units."""
        is_there = ~np.isnan(self._figures[0])
        means = self._figures[0, is_there]
        some = means if len(means) else np.zeros(1)
        motion = self._figures[2:, is_there].mean(axis=1) if len(means) else np.zeros(2)
        return FlowDifferences(
            units=len(means),
            same=int(self._same.sum()),
            unequal=int((~is_there).sum()),
            mean=float(some.mean()),
            median=float(np.median(some)),
            most=float(some.max()),
            motion_a=float(motion[0]),
            motion_b=float(motion[1]),
            means=means,
        )

    def respects(self) -> list[Respect]:
        """Return the differences of all units; those whose frames differ come first."""
        is_missing = np.isnan(self._figures[0])
        columns = {
            name: pa.array(values, mask=is_missing) for name, values in zip(_FIGURES, self._figures, strict=True)
        }
        order = np.where(is_missing, np.inf, self._figures[0])
        return [Respect(name="flow", differs=~self._same, columns=columns, order=order)]


def _vectors(flow: pa.Scalar) -> np.ndarray:
    """Return motion float32 [pixels, 2] of a row."""
    return flow.values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, 2)
