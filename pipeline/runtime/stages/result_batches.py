"""Batches of results, which leave the sandbox by column: hundreds of small objects take longer to send than to make."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np

from pipeline.runtime.stages.shard_format import array_views
from pipeline.runtime.stages.unit_reader import Loaded, UnitResult
from pipeline.sources.source import Unit

_MAX_SECONDS, _MAX_BYTES = 0.02, 1 << 20  # per batch
_LARGE_BYTES = 1 << 16  # arrays of this size are sent separately: joining them would copy them once more

ArrayColumn: TypeAlias = tuple[np.ndarray, list[tuple[int, ...]]] | list[np.ndarray]
"""Arrays of several units: joined in one, with their shapes, or as they are."""


def batched(results: Iterable[tuple[int, UnitResult]]) -> Generator[ResultBatch, None, ResultBatch]:
    """Yield results, each with the number of its piece, in batches; the last one, maybe empty, is returned."""
    batch: list[tuple[int, UnitResult]] = []
    size, since = 0, time.monotonic()
    for number, result in results:
        batch.append((number, result))
        size += result.nbytes
        if size >= _MAX_BYTES or time.monotonic() - since >= _MAX_SECONDS:
            yield ResultBatch.of(batch)
            batch, size, since = [], 0, time.monotonic()
    return ResultBatch.of(batch)


@dataclass(frozen=True, kw_only=True)
class ResultBatch:
    """Results in order.

    pieces: Number of the piece of each result. units: Ids, uris, versions and kept columns of the loaded units. arrays:
    Their arrays by name. others: The other results, by their places.
    """

    pieces: list[int]
    units: list[tuple[str, str, str, dict[str, Any]]]
    arrays: dict[str, ArrayColumn]
    others: dict[int, UnitResult]

    @classmethod
    def of(cls, results: Sequence[tuple[int, UnitResult]]) -> ResultBatch:
        """Return the batch of results, whose loaded units have arrays of the same names."""
        loaded = [each.result for _, each in results if isinstance(each.result, Loaded)]
        names = loaded[0].arrays if loaded else ()
        return cls(
            pieces=[piece for piece, _ in results],
            units=[(one.unit.id, one.unit.uri, one.unit.version, one.unit.kept) for one in loaded],
            arrays={name: _join([one.arrays[name] for one in loaded]) for name in names},
            others={at: each for at, (_, each) in enumerate(results) if not isinstance(each.result, Loaded)},
        )

    def results(self) -> Iterator[tuple[int, UnitResult]]:
        """Yield each result with the number of its piece."""
        loaded = self._loaded()
        for at, piece in enumerate(self.pieces):
            yield piece, self.others[at] if at in self.others else UnitResult(next(loaded))

    def _loaded(self) -> Iterator[Loaded]:
        columns = [array_views(*column) if isinstance(column, tuple) else column for column in self.arrays.values()]
        rows = zip(*columns, strict=True) if columns else repeat((), len(self.units))
        for row, (id_, uri, version, kept) in zip(rows, self.units, strict=True):
            unit = Unit(id=id_, uri=uri, version=version, kept=kept)
            yield Loaded(unit=unit, arrays=dict(zip(self.arrays, row, strict=True)))


def _join(arrays: list[np.ndarray]) -> ArrayColumn:
    """Return small arrays of one dtype joined in one, and their shapes; others as they are."""
    if len(arrays) == 1 or any(array.nbytes > _LARGE_BYTES or array.dtype != arrays[0].dtype for array in arrays):
        return arrays
    return np.concatenate([array.reshape(-1) for array in arrays]), [array.shape for array in arrays]
