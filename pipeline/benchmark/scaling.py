"""Whole runs with 1, 2, 4 … replicas, alternating: how much throughput each number of replicas adds."""

import math
from collections import defaultdict
from collections.abc import Iterator
from statistics import median

from pipeline.benchmark.engine import BenchOptions
from pipeline.benchmark.monitor import busy_share
from pipeline.benchmark.timing import Row, median_and_range
from pipeline.benchmark.workloads import Workload, make_workloads
from pipeline.reference.published_configs import Shape
from pipeline.runtime.ray_backend.cluster import cluster_nodes
from pipeline.runtime.ray_backend.resources import resolve_resources


def bench_scaling(shape: Shape, options: BenchOptions) -> Iterator[Row]:
    """Yield a row per dtype and number of replicas, those of one dtype together once all are measured.

    Rates are medians of `repeats`, of predicting alone. The ideal rate is that of one replica times the ratio of the
    GPUs or CPUs in use.
    """
    for workload in make_workloads(shape, options):
        yield from _rows(workload)


def _rows(workload: Workload) -> Iterator[Row]:
    counts = _replica_counts(workload)
    rates: dict[int, list[float]] = defaultdict(list)
    busy = []
    for number in range(workload.options.repeats):
        for count in counts if number % 2 == 0 else reversed(counts):
            busy.append(busy_share())
            run = workload.run(f"{count}-replicas-{number}", replicas=count)
            rates[count].append(run.units / run.predicting)
    nodes = cluster_nodes()
    threads = {n: resolve_resources(workload.run_options(replicas=n), nodes).threads for n in counts}
    for count in counts:
        # One replica may use all CPUs alone: the ideal depends on the threads of all replicas together.
        ratio = count if workload.options.device == "cuda" else count * threads[count] / threads[1]
        ideal = median(rates[1]) * ratio
        yield {
            "bench": "scaling",
            **workload.description(),
            "replicas": count,
            "threads": threads[count],
            **median_and_range("units_per_second", rates[count]),
            "ideal_units_per_second": ideal,
            "busy_before": busy,
            "of_ideal": median(rates[count]) / ideal,
        }


def _replica_counts(workload: Workload) -> list[int]:
    """Return 1, 2, 4 … as long as each replica has a CPU or GPU, and a shard."""
    nodes = cluster_nodes()
    devices = sum(node.gpus if workload.options.device == "cuda" else node.cpus for node in nodes)
    most = max(1, min(int(devices), math.ceil(workload.units / workload.shard_size)))
    return [1 << power for power in range(most.bit_length())]
