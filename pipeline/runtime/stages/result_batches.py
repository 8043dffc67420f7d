"""How results leave a child process: by column, for hundreds of small objects take longer on their way than to make."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from pipeline.runtime.stages.unit_reader import Loaded, Loader, UnitResult, unit_results
from pipeline.sources.source import Piece, Unit

_SECONDS, _BYTES = 0.02, 1 << 20  # that are gathered before they leave
_LARGE = 1 << 16  # bytes of an array that is sent from where it is: gathering it would be a copy more


def read_batches(loader: Loader, pieces: Sequence[Piece], attempt: int) -> Generator[ResultBatch, None, ResultBatch]:
    """What becomes of each unit of some pieces, in their order. The last parcel is returned, empty or not."""
    numbers: list[int] = []
    results: list[UnitResult] = []
    size, since = 0, time.monotonic()
    for number, found in (
        (at, found) for at, piece in enumerate(pieces) for found in unit_results(loader, piece, attempt)
    ):
        numbers.append(number)
        results.append(found)
        size += found.nbytes
        if size >= _BYTES or time.monotonic() - since >= _SECONDS:
            yield ResultBatch.of(numbers, results)
            numbers, results, size, since = [], [], 0, time.monotonic()
    return ResultBatch.of(numbers, results)


@dataclass(frozen=True, kw_only=True)
class ResultBatch:
    """Results in their order. numbers: of the piece that each is from. places: where those stand that were loaded.
    units: of these the ids, uris, versions and kept columns, arrays: theirs by name. others: the other results."""

    numbers: Sequence[int]
    places: Sequence[int]
    units: tuple[list[str], list[str], list[str], list[Mapping[str, Any]]]
    arrays: dict[str, ArrayColumn]
    others: list[UnitResult]

    @classmethod
    def of(cls, numbers: Sequence[int], results: Sequence[UnitResult]) -> ResultBatch:
        """The results, whose arrays have the same names."""
        loaded = [(at, found.result) for at, found in enumerate(results) if isinstance(found.result, Loaded)]
        units, arrays = [one.unit for _, one in loaded], [one.arrays for _, one in loaded]
        return cls(
            numbers=numbers,
            places=[at for at, _ in loaded],
            units=(
                [unit.id for unit in units],
                [unit.uri for unit in units],
                [unit.version for unit in units],
                [unit.kept for unit in units],
            ),
            arrays={name: ArrayColumn.of([each[name] for each in arrays]) for name in (arrays[0] if arrays else ())},
            others=[found for found in results if not isinstance(found.result, Loaded)],
        )

    def opened(self) -> Iterator[tuple[int, UnitResult]]:
        """Each result again, with the number of its piece."""
        results: list[UnitResult | None] = [None] * len(self.numbers)
        for at, arrays, *unit in zip(self.places, self._arrays(), *self.units, strict=True):
            id_, uri, version, kept = unit
            results[at] = UnitResult(Loaded(unit=Unit(id=id_, uri=uri, version=version, kept=kept), arrays=arrays))
        others = iter(self.others)
        return zip(self.numbers, (found or next(others) for found in results), strict=True)

    def _arrays(self) -> Iterable[dict[str, np.ndarray]]:
        if not self.arrays:
            return ({} for _ in self.places)
        columns = [column.arrays() for column in self.arrays.values()]
        return (dict(zip(self.arrays, row, strict=True)) for row in zip(*columns, strict=True))


@dataclass(frozen=True, kw_only=True)
class ArrayColumn:
    """Arrays of several units: small ones of one type end to end, with their shapes; others as they are."""

    values: np.ndarray | list[np.ndarray]
    shapes: list[tuple[int, ...]]

    @classmethod
    def of(cls, arrays: list[np.ndarray]) -> ArrayColumn:
        """The arrays."""
        shapes = [array.shape for array in arrays]
        if len(arrays) == 1 or any(array.nbytes > _LARGE or array.dtype != arrays[0].dtype for array in arrays):
            return cls(values=arrays, shapes=shapes)
        if all(shape == shapes[0] for shape in shapes):
            return cls(values=np.stack(arrays), shapes=shapes[:1])
        return cls(values=np.concatenate([array.reshape(-1) for array in arrays]), shapes=shapes)

    def arrays(self) -> Iterable[np.ndarray]:
        """The arrays again, of those that were gathered views."""
        if isinstance(self.values, list) or len(self.shapes) == 1:
            return self.values
        ends = accumulate((int(np.prod(shape)) for shape in self.shapes), initial=0)
        spans = zip(pairwise(ends), self.shapes, strict=True)
        return (self.values[begin:end].reshape(shape) for (begin, end), shape in spans)
