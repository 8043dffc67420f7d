"""The size of a micro-batch is the smallest of those that are about as fast as any."""

import pytest

from pipeline.runtime.stages.batch_sizes import RUNS_PER_SIZE, BatchSizes


def settle(sizes: BatchSizes, rates: dict[int, float], most: int, bucket: str = "a") -> list[int]:
    """Sizes that were tried, in order, and the one that was found; `rates` are units per second."""
    tried: list[int] = []
    while len(tried) < 100:
        size = sizes.next(bucket, most)
        if tried.count(size) == RUNS_PER_SIZE:
            return [*tried, size]
        tried.append(size)
        sizes.record(bucket, size, size / rates[size])
    raise AssertionError(tried)


def test_smallest_size_near_the_best_rate_is_kept() -> None:
    rates = {1: 10.0, 2: 15.0, 4: 19.5, 8: 20.0, 16: 20.1, 32: 40.0}
    tried = settle(BatchSizes(64, tuned=True), rates, 64)
    assert tried == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 4], "32 is not tried after two that are no faster"


def test_rate_that_keeps_growing_leads_to_the_greatest_size() -> None:
    assert settle(BatchSizes(64, tuned=True), {size: float(size) for size in (1, 2, 4, 6)}, 6)[-1] == 6


def test_size_one_is_kept_if_larger_ones_are_not_faster() -> None:
    assert settle(BatchSizes(64, tuned=True), dict.fromkeys((1, 2, 4, 8), 3.0), 8) == [1, 1, 2, 2, 4, 4, 1]


def test_first_slow_run_of_a_size_is_ignored() -> None:
    sizes = BatchSizes(64, tuned=True)
    for size, seconds in ((1, 9.0), (1, 0.1), (2, 9.0), (2, 0.1), (4, 9.0), (4, 0.2)):
        assert sizes.next("a", 4) == size
        sizes.record("a", size, seconds)
    assert sizes.next("a", 4) == 2


def test_buckets_are_independent_and_a_smaller_limit_is_kept() -> None:
    sizes = BatchSizes(64, tuned=True)
    rates = {1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0}
    assert settle(sizes, rates, 8)[-1] == 8
    assert sizes.next("other", 8) == 1
    assert sizes.next("a", 4) == 4


@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_size_never_exceeds_the_limit(most: int) -> None:
    sizes = BatchSizes(64, tuned=True)
    for _ in range(50):
        size = sizes.next("a", most)
        assert 1 <= size <= most
        sizes.record("a", size, 1.0)
