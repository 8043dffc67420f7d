"""Reconstructed clips of two runs: the PSNR between both, and that of each against its original."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.comparison.differences import Respect
from pipeline.formatting import count, counted
from pipeline.results.unit_arrays import audio_array, video_array
from pipeline.sinks.python_rows import python_rows

SAME = np.inf  # PSNR of what is the same
_PEAKS = {"video": 1.0, "audio": 2.0}  # of values in [0, 1], and of samples in [-1, 1]
_EXACT = {"video": "frames", "audio": "samples"}  # columns of a run with --arrays
QUALITIES = ("video_psnr_db", "audio_psnr_db")


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far the reconstructions of a medium are apart.

    Attributes:
        medium: "video" or "audio".
        clips, same: number of clips that were compared, and of those that are the same.
        unequal: number of clips whose reconstructions differ in size.
        mean, least: PSNR in dB between the runs, of those that are not the same; None if all are.
        quality_a, quality_b: mean PSNR of each run against the originals; None if it is not known.
        psnr: float64 [clips - same].
    """

    medium: str
    clips: int
    same: int
    unequal: int
    mean: float | None
    least: float | None
    quality_a: float | None
    quality_b: float | None
    psnr: np.ndarray

    def describe(self) -> list[str]:
        """Return sentences for people."""
        line = f"{self.medium} is the same for {count(self.same)} of {counted(self.clips, 'clip')}"
        if self.mean is not None:
            line += f"; PSNR between the others {self.mean:.1f} dB on average, {self.least:.1f} at least"
        lines = [line] if self.clips else []
        if self.quality_a is not None and self.quality_b is not None:
            lines.append(
                f"PSNR of {self.medium} against the originals {self.quality_a:.2f} dB in A, {self.quality_b:.2f} in B"
            )
        if self.unequal:
            lines.append(f"not compared: {self.medium} of {counted(self.unequal, 'clip')}, which has another size in B")
        return lines


class ClipColumns:
    """Compares reconstructed clips, one after another.

    The columns of the table are the PSNR between both, and of each against the original; null if they are the same,
    differ in size, or there is no audio.
    """

    def __init__(self, units: int, names: frozenset[str]) -> None:
        sources = {medium: _EXACT[medium] if _EXACT[medium] in names else medium for medium in _PEAKS}
        self._sources = {medium: column for medium, column in sources.items() if column in names}
        self._qualities = [name for name in QUALITIES if name in names]
        self.columns: Sequence[str] = [*self._sources.values(), *self._qualities]
        self._psnr = {medium: np.full(units, np.nan) for medium in self._sources}
        self._unequal = {medium: np.zeros(units, bool) for medium in self._sources}
        self._of = {name: np.full((2, units), np.nan) for name in self._qualities}

    def add(self, numbers: np.ndarray, a: pa.Table, b: pa.Table) -> None:
        """Compare some clips."""
        for place, number in enumerate(numbers):
            first, second = (python_rows(table.slice(place, 1))[0] for table in (a, b))
            for medium, column in self._sources.items():
                arrays = [_array(row, column) for row in (first, second)]
                if arrays[0] is None and arrays[1] is None:
                    continue
                if arrays[0] is None or arrays[1] is None or arrays[0].shape != arrays[1].shape:
                    self._unequal[medium][number] = True
                else:
                    self._psnr[medium][number] = psnr(arrays[0], arrays[1], _PEAKS[medium])
            for name, values in self._of.items():
                values[:, number] = [np.nan if row[name] is None else row[name] for row in (first, second)]

    def found(self) -> list[Distance]:
        """Return the distance of each medium."""
        return [self._distance(medium) for medium in self._sources]

    def respects(self) -> list[Respect]:
        """Return the differences of all clips, those of another size first."""
        found = []
        for medium, values in self._psnr.items():
            unequal, is_same = self._unequal[medium], np.isposinf(values)
            columns = {f"{medium}_psnr_between_db": pa.array(values, mask=~np.isfinite(values))}
            for name, of_runs in self._of.items():
                if name.startswith(medium):
                    columns |= {
                        f"{name}_{run}": pa.array(part, mask=np.isnan(part))
                        for run, part in zip("ab", of_runs, strict=True)
                    }
            order = np.where(unequal, np.inf, np.where(np.isfinite(values), -values, -np.inf))
            differs = unequal | ~(is_same | np.isnan(values))
            found.append(Respect(name=medium, differs=differs, columns=columns, order=order))
        return found

    def _distance(self, medium: str) -> Distance:
        values = self._psnr[medium]
        others = values[np.isfinite(values)]
        clips = int((~np.isnan(values)).sum())
        quality = self._of.get(f"{medium}_psnr_db")
        means: list[float | None] = [None, None]
        if quality is not None and (both := np.isfinite(quality).all(axis=0)).any():
            means = quality[:, both].mean(axis=1).tolist()
        return Distance(
            medium=medium,
            clips=clips,
            same=clips - len(others),
            unequal=int(self._unequal[medium].sum()),
            mean=float(others.mean()) if len(others) else None,
            least=float(others.min()) if len(others) else None,
            quality_a=means[0],
            quality_b=means[1],
            psnr=others,
        )


def psnr(a: np.ndarray, b: np.ndarray, peak: float) -> float:
    """Return the peak signal-to-noise ratio in dB of two arrays, `SAME` if they are equal."""
    error = float(np.mean(np.square(a - b, dtype=np.float64)))
    return SAME if error == 0 else float(10 * np.log10(peak**2 / error))


def _array(row: Mapping[str, Any], column: str) -> np.ndarray | None:
    """Return the values of a medium, frames in [0, 1] and samples in [-1, 1]; None if the row has none."""
    value = row[column]
    if value is None:
        return None
    if column == "video":
        return video_array(value["bytes"]).astype(np.float32) / 255
    return audio_array(value["bytes"])[0] if column == "audio" else np.asarray(value)
