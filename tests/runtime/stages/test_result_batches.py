"""Batches of results arrive as they were sent, in order."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.runtime.records.quarantine import quarantine_record
from pipeline.runtime.stages.result_batches import ResultBatch
from pipeline.runtime.stages.unit_reader import Loaded, UnitResult
from pipeline.sources import Unit


def loaded(name: str, **arrays: np.ndarray) -> UnitResult:
    unit = Unit(id=name, uri=f"/in/{name}", version=f"v{name}", kept={"number": len(name)})
    return UnitResult(Loaded(unit=unit, arrays=arrays))


def lost(name: str, *, transient: bool = False) -> UnitResult:
    return UnitResult(quarantine_record(name, f"/in/{name}", "load", ValueError("cut")), transient)


def sent(results: Sequence[UnitResult]) -> list[UnitResult]:
    """The results that arrive; they keep the numbers of their pieces."""
    numbers = [3 * number for number in range(len(results))]
    opened = list(pickle.loads(pickle.dumps(ResultBatch.of(list(zip(numbers, results, strict=True))))).results())
    assert [number for number, _ in opened] == numbers
    return [found for _, found in opened]


SHAPES = {
    "of one shape": [(3, 4)] * 5,
    "of several shapes": [(2, 2), (7,), (0,), (1, 1, 1), ()],
    "large": [(300, 300)] * 5,
    "one of them large": [(3,), (3,), (300, 300), (3,), (3,)],
    "without any value": [(0, 3)] * 5,
}


@pytest.mark.parametrize("kind", SHAPES)
def test_units_arrive_unchanged(kind: str) -> None:
    colors = np.random.default_rng(0)
    arrays = [{"a": colors.normal(size=shape), "b": np.arange(at)} for at, shape in enumerate(SHAPES[kind])]
    results = [loaded("u" * at, **each) for at, each in enumerate(arrays)]
    for found, given in zip(sent(results), results, strict=True):
        assert isinstance(found.result, Loaded)
        assert isinstance(given.result, Loaded)
        for name in ("id", "uri", "version", "kept"):
            assert getattr(found.result.unit, name) == getattr(given.result.unit, name)
        assert found.result.arrays.keys() == {"a", "b"}
        for name, array in given.result.arrays.items():
            np.testing.assert_array_equal(found.result.arrays[name], array, strict=True)


def test_arrays_of_several_dtypes_keep_them() -> None:
    results = [loaded("a", x=np.zeros(3, np.uint8)), loaded("b", x=np.zeros(3, np.float32))]
    types = [found.result.arrays["x"].dtype for found in sent(results) if isinstance(found.result, Loaded)]
    assert types == [np.uint8, np.float32]


def test_other_results_keep_their_places() -> None:
    results = [
        lost("a", transient=True),
        loaded("b"),
        UnitResult(None),
        lost("c"),
        loaded("d"),
        lost("e", transient=True),
    ]
    found = sent(results)
    names = [
        each.result.unit.id if isinstance(each.result, Loaded) else each.result and each.result.id for each in found
    ]
    assert names == ["a", "b", None, "c", "d", "e"]
    assert [each.transient for each in found] == [each.transient for each in results]


def test_empty_batch_arrives_empty() -> None:
    assert sent([]) == []
