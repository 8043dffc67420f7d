"""Estimate of a run: freeze the plan, measure a sample of its units on the cluster, extrapolate."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.formatting import count, counted, duration, size
from pipeline.runtime.driver.display import Display
from pipeline.runtime.driver.prepare import prepare_run
from pipeline.runtime.driver.sample import MeasuredSample, PiecesOfShard, measure_sample, sample_pieces
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.ray_backend.cluster import call_with_replica_resources
from pipeline.runtime.ray_backend.passes import StageConfig
from pipeline.runtime.ray_backend.resources import Resources
from pipeline.runtime.records.committed import list_parts
from pipeline.runtime.records.listing import ListedInputs
from pipeline.runtime.signals import stop_on_signals

OTHER_PROCESSES = 2  # of a run: one loads and one writes. While they start, replicas have less of the CPUs


@dataclass(frozen=True, kw_only=True, repr=False)
class Estimate:
    """A frozen plan with estimated time and size.

    Attributes:
        start_seconds: until the first unit is predicted: connection to Ray, listing, replicas.
        seconds: of the remaining shards on this cluster, after that.
        bytes: of all parts.

    If only opening the inputs tells the number of units, the last two follow from a guess from the inputs, and are None
    without one.
    """

    plan: Plan
    listed: ListedInputs
    shards_done: int
    resources: Resources
    sample: MeasuredSample
    start_seconds: float
    seconds: float | None
    bytes: int | None
    notes: tuple[str, ...] = ()  # what is assumed about the checkpoint

    def __repr__(self) -> str:
        units = "unknown units" if self.plan.units is None else counted(self.plan.units, "unit")
        parts = [units, f"{count(self.shards_done)} of {counted(self.plan.shards, 'shard')} done"]
        if self.seconds is not None and self.bytes is not None:
            parts.append(f"{duration(self.seconds)} left, and {duration(self.start_seconds)} to start")
            parts.append(f"{size(self.bytes)} in all")
        return f"<Estimate: {', '.join(parts)}>"


def estimate(options: RunOptions, display: Display | None = None) -> Estimate:
    """Freeze the plan of a run and estimate its time and size; raises what a run raises before any work.

    SIGTERM and SIGINT raise Stopped, as they do in a run.
    """
    display = display or Display(quiet=True)
    started = time.perf_counter()
    with stop_on_signals(), prepare_run(options, display) as ready:
        plan, stages = ready.plan, ready.stages()
        resources = stages.resources
        done = len(list_parts(ready.output, ready.run.run).shards)
        prepared = time.perf_counter() - started
        shards = sample_pieces(ready.output, plan)
        with display.phase("loading the model and measuring a sample of units"):
            began = time.perf_counter()
            sample, inside = call_with_replica_resources(resources, _timed_sample, stages, shards)
            outside = time.perf_counter() - began - inside  # until a worker process runs
        units = plan.units if plan.units is not None else plan.estimated_units or None
        return Estimate(
            plan=plan,
            listed=ready.listed,
            shards_done=done,
            resources=resources,
            sample=sample,
            start_seconds=prepared + outside * (1 + OTHER_PROCESSES / max(1.0, resources.cpus)) + sample.start_seconds,
            seconds=None if units is None else units * (1 - done / plan.shards) * seconds_per_unit(sample, resources),
            bytes=None if units is None else round(units * sample.unit_bytes + plan.shards * sample.part_bytes),
            notes=ready.notes,
        )


def _timed_sample(stages: StageConfig, shards: Sequence[PiecesOfShard]) -> tuple[MeasuredSample, float]:
    """Return the measured sample and the seconds that it took."""
    began = time.perf_counter()
    return measure_sample(stages, shards), time.perf_counter() - began


def seconds_per_unit(sample: MeasuredSample, resources: Resources) -> float:
    """Return the seconds per unit on the cluster: of its slowest stage, or of all CPUs if they are the limit."""
    others = max(0.0, resources.cpus - resources.replicas * resources.replica_cpus)
    tasks = sample.load_seconds + sample.write_seconds
    stages = sample.predict_seconds / resources.replicas, sample.load_seconds / max(1.0, others / resources.load_cpus)
    if resources.device != "cpu":
        return max(*stages, tasks / max(1.0, resources.cpus))
    threads = min(resources.threads * resources.replicas, resources.cpus)  # busy while replicas predict
    busy = sample.predict_seconds / resources.replicas * threads
    return max(*stages, (busy + tasks) / max(1.0, resources.cpus))
