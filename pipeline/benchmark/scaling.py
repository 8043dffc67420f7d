"""Whole runs with 1, 2, 4 … replicas, turn by turn: how much each of them adds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from pipeline.benchmark.monitor import busy
from pipeline.benchmark.workloads import Row, ThroughputOptions, Work, shapes_of, works
from pipeline.reference.published_configs import Shape
from pipeline.runtime.ray_backend.resources import cluster_nodes, resolve_resources


def bench_scaling(names: Sequence[str], options: ThroughputOptions) -> Iterator[Row]:
    """The rows of several shapes, those of a shape and dtype together once all of their turns are done."""
    for shape in shapes_of(names, options):
        yield from scale(shape, options)


def scale(shape: Shape, options: ThroughputOptions) -> Iterator[Row]:
    """A row for each dtype and number of replicas. Rates are medians of `repeats`, of predicting alone, as those of
    `bench_pipeline`. The ideal is that of one replica, times the GPUs or CPUs that there are more for so many."""
    for work in works(shape, options):
        yield from _rows(work)


def _rows(work: Work) -> Iterator[Row]:
    counts = _counts(work)
    rates: dict[int, list[float]] = defaultdict(list)
    taken = []
    for number in range(work.options.repeats):
        for count in counts if number % 2 == 0 else reversed(counts):  # who goes first changes
            taken.append(busy())
            turn = work.run(f"{count}-replicas-{number}", replicas=count)
            rates[count].append(turn.units / turn.predicting)
    for count in counts:
        rate = median(rates[count])
        row = {
            "bench": "scaling",
            **work.described(),
            "replicas": count,
            "threads": _threads(work, count),
            "units_per_second": rate,
            "units_per_second_range": [min(rates[count]), max(rates[count])],
            "ideal_units_per_second": median(rates[1]) * _times_as_much(work, count),
            "busy_before": taken,
        }
        yield row | {"of_ideal": rate / row["ideal_units_per_second"]}


def _times_as_much(work: Work, count: int) -> float:
    """What so many replicas have, over what one has: GPUs, or the CPUs of their threads, which one may have alone."""
    return count if work.options.device == "cuda" else count * _threads(work, count) / _threads(work, 1)


def _threads(work: Work, count: int) -> int:
    return resolve_resources(work.run_options(replicas=count), cluster_nodes()).threads


def _counts(work: Work) -> list[int]:
    """1, 2, 4 … as far as each has a CPU, or a GPU, and a shard of its own."""
    there = cluster_nodes()
    devices = sum(node.gpus if work.options.device == "cuda" else node.cpus for node in there)
    most = max(1, min(int(devices), math.ceil(work.units / work.shard_size)))
    return [1 << power for power in range(most.bit_length())]
