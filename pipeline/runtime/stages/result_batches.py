"""Batches of results, which leave the sandbox by column: hundreds of small objects take longer to send than to make."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from pipeline.runtime.stages.unit_reader import Loaded, UnitResult
from pipeline.sources.source import Unit

_MAX_SECONDS, _MAX_BYTES = 0.02, 1 << 20  # per batch
_LARGE_BYTES = 1 << 16  # arrays of this size are sent separately: joining them would copy them once more


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

    pieces: Number of the piece of each result. loaded: Places of the loaded units among the results. units: Their ids,
    uris, versions and kept columns. arrays: Their arrays by name. others: The other results.
    """

    pieces: Sequence[int]
    loaded: Sequence[int]
    units: tuple[list[str], list[str], list[str], list[Mapping[str, Any]]]
    arrays: dict[str, ArrayColumn]
    others: list[UnitResult]

    @classmethod
    def of(cls, results: Sequence[tuple[int, UnitResult]]) -> ResultBatch:
        """Return the batch of results, whose loaded units have arrays of the same names."""
        loaded = [(at, each.result) for at, (_, each) in enumerate(results) if isinstance(each.result, Loaded)]
        units, arrays = [one.unit for _, one in loaded], [one.arrays for _, one in loaded]
        return cls(
            pieces=[piece for piece, _ in results],
            loaded=[at for at, _ in loaded],
            units=(
                [unit.id for unit in units],
                [unit.uri for unit in units],
                [unit.version for unit in units],
                [unit.kept for unit in units],
            ),
            arrays={name: ArrayColumn.of([each[name] for each in arrays]) for name in (arrays[0] if arrays else ())},
            others=[each for _, each in results if not isinstance(each.result, Loaded)],
        )

    def results(self) -> Iterator[tuple[int, UnitResult]]:
        """Yield each result with the number of its piece."""
        columns = [column.arrays() for column in self.arrays.values()]
        rows = zip(*columns, strict=True) if columns else (() for _ in self.loaded)
        loaded = {}
        for at, row, id_, uri, version, kept in zip(self.loaded, rows, *self.units, strict=True):
            unit = Unit(id=id_, uri=uri, version=version, kept=kept)
            loaded[at] = UnitResult(Loaded(unit=unit, arrays=dict(zip(self.arrays, row, strict=True))))
        others = iter(self.others)
        return ((piece, loaded[at] if at in loaded else next(others)) for at, piece in enumerate(self.pieces))


@dataclass(frozen=True, kw_only=True)
class ArrayColumn:
    """Arrays of several units: small ones of one dtype joined, with their shapes; others as they are."""

    values: np.ndarray | list[np.ndarray]
    shapes: list[tuple[int, ...]]

    @classmethod
    def of(cls, arrays: list[np.ndarray]) -> ArrayColumn:
        """Return the column of at least one array."""
        shapes = [array.shape for array in arrays]
        if len(arrays) == 1 or any(array.nbytes > _LARGE_BYTES or array.dtype != arrays[0].dtype for array in arrays):
            return cls(values=arrays, shapes=shapes)
        if all(shape == shapes[0] for shape in shapes):
            return cls(values=np.stack(arrays), shapes=shapes[:1])
        return cls(values=np.concatenate([array.reshape(-1) for array in arrays]), shapes=shapes)

    def arrays(self) -> Iterable[np.ndarray]:
        """Return the arrays, joined ones as views."""
        if isinstance(self.values, list) or len(self.shapes) == 1:
            return self.values
        ends = accumulate((int(np.prod(shape)) for shape in self.shapes), initial=0)
        spans = zip(pairwise(ends), self.shapes, strict=True)
        return (self.values[begin:end].reshape(shape) for (begin, end), shape in spans)
