"""The Ray Dataset of a pass: load → predict → write, a row a shard, with the settings that this rests on."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Collection, Container, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.util.annotations import RayDeprecationWarning

from pipeline.heads.head import Head
from pipeline.runtime.plan.plan_files import PlanFile
from pipeline.runtime.ray_backend.failures import translate_ray_errors
from pipeline.runtime.ray_backend.replica_actors import IsolatedReplicaActor, ReplicaActor
from pipeline.runtime.ray_backend.resources import Resources
from pipeline.runtime.records.receipts import Receipt, receipt_in_row
from pipeline.runtime.stages.isolated_replica import MICRO_BATCH_SECONDS
from pipeline.runtime.stages.load import DEFAULT_UNIT_LIMITS, Loader, load, skip_predict
from pipeline.runtime.stages.model_runner import ModelRef
from pipeline.runtime.stages.write import Writer, write

BLOCK_SHARDS = 32
CONCURRENT_CALLS = 3  # one shard is collated, one computes, one leaves
ATTEMPTS_PER_PASS = 2  # of a shard in one pass
MAX_LOST_SHARDS = 256  # shards that a pass goes on without; the next one takes planned minus committed
DATASET_SHARDS = 20_000  # Ray Data keeps 7 kB for each shard that is done for as long as its Dataset runs
RESTARTS_PER_REPLICA = (
    4 * MAX_LOST_SHARDS
)  # of one replica: more than shards have attempts, for the pool stalls without it


class PassMode(Enum):
    """How a pass runs its shards.

    TOGETHER: as fast as it goes. APART: one shard a process at a time, what may kill it in a child process, so that the
    unit which does is found and quarantined. GIVEN_UP: nothing is read any more, every unit is quarantined.
    """

    NORMAL = "normal"
    ISOLATED = "isolated"
    QUARANTINE_ALL = "quarantine all"


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What travels to the workers. All of it small: a replica is restarted from these."""

    loader: Loader
    model: ModelRef
    head: Head
    writer: Writer
    batch_size: int | str
    resources: Resources
    keep_latents: str | None = None
    stall_timeout: float = 1800.0  # seconds

    def replica(self) -> dict[str, Any]:
        """Arguments of a `Replica`."""
        arguments = {"ref": self.model, "head": self.head, "batch_size": self.batch_size}
        return {**arguments, "keep_latents": self.keep_latents}


def run_shards(
    stages: StageConfig, files: Sequence[PlanFile], done: Collection[int], mode: PassMode = PassMode.NORMAL
) -> Generator[Receipt]:
    """Run the shards of these plan files that are not done, and yield their receipts in the order they come.

    Closing the iterator stops the work.
    """
    size = block_size(files, done, stages.resources.cpus) if mode is PassMode.NORMAL else 1
    blocks = list(plan_blocks(files, done, size))
    most = max(1, DATASET_SHARDS // size)
    for begin in range(0, len(blocks), most):
        yield from _run_dataset(stages, blocks[begin : begin + most], mode)


def _run_dataset(stages: StageConfig, blocks: Sequence[pa.Table], mode: PassMode) -> Generator[Receipt]:
    """Those of one Dataset."""
    pool = ReplicaNames()
    rows = iter(build_dataset(stages, blocks, pool, mode).iter_rows())
    try:
        with translate_ray_errors():
            for row in rows:
                yield receipt_in_row(row)
    finally:
        rows.close()
        pool.kill()


class ReplicaNames:
    """The names of a pass's replicas, so that they can be ended with it.

    Ray Data ends an actor by letting go of it. One that is being restarted just then stays for ever, with its share of
    the cluster: after two such passes nothing else could be placed.
    """

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self) -> dict[str, str]:
        """What Ray Data gives the next actor beside its resources."""
        self.names.append(f"replica-{uuid.uuid4().hex}")
        return {"name": self.names[-1]}

    def kill(self) -> None:
        """End those that are still there."""
        for name in self.names:
            with suppress(ValueError, ray.exceptions.RayError):  # gone by itself, or the cluster is
                ray.kill(ray.get_actor(name))


def build_dataset(
    stages: StageConfig, blocks: Sequence[pa.Table], pool: ReplicaNames, mode: PassMode = PassMode.NORMAL
) -> Dataset:
    """The Dataset of these plan rows, not yet running; its replicas enter themselves in `pool`."""
    with warnings.catch_warnings():
        # Retries have no named parameter, and without one a shard that kills its process is retried for ever. Copying a
        # context warns of settings that nobody made.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        # Apart, a unit that hangs is found by its child's limits, one try after another: nothing comes out until then.
        stall = stages.stall_timeout if mode is PassMode.NORMAL else max(stages.stall_timeout, 4 * MICRO_BATCH_SECONDS)
        with DataContext.current(_data_context(stall)):
            plan = ray.data.from_arrow(list(blocks))
            loaded = _load(stages, plan, mode)
            given_up = mode is PassMode.QUARANTINE_ALL
            predicted = _quarantine_all(stages, loaded) if given_up else _predict(stages, loaded, plan, pool, mode)
            return _write(stages, predicted, mode)


_ONE_SHARD_PER_CALL = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}


def _load(stages: StageConfig, plan: Dataset, mode: PassMode) -> Dataset:
    loader = stages.loader
    if mode is not PassMode.NORMAL:
        loader = replace(loader, limits=loader.limits or DEFAULT_UNIT_LIMITS, abandoned=mode is PassMode.QUARANTINE_ALL)
    return plan.map_batches(
        load,
        fn_kwargs={"loader": loader},
        num_cpus=stages.resources.load_cpus,
        max_retries=ATTEMPTS_PER_PASS - 1,
        **_ONE_SHARD_PER_CALL,
    )


def _predict(stages: StageConfig, loaded: Dataset, plan: Dataset, pool: ReplicaNames, mode: PassMode) -> Dataset:
    resources, apart = stages.resources, mode is PassMode.ISOLATED
    replicas = ActorPoolStrategy(
        size=min(resources.replicas, plan.count()),  # a replica more would load its model for nothing
        max_concurrent_calls_per_actor=1 if apart else CONCURRENT_CALLS,
        # No more than it works on: what waited in one replica's queue, twice as many by default, would wait there while
        # others have nothing left to do.
        max_tasks_in_flight_per_actor=1 if apart else CONCURRENT_CALLS,
        enable_true_multi_threading=True,
    )
    return loaded.map_batches(
        IsolatedReplicaActor if apart else ReplicaActor,
        fn_constructor_kwargs=stages.replica() | ({"attempts": ATTEMPTS_PER_PASS} if apart else {}),
        compute=replicas,
        num_cpus=resources.replica_cpus,
        num_gpus=resources.replica_gpus or None,
        max_restarts=RESTARTS_PER_REPLICA,
        max_task_retries=ATTEMPTS_PER_PASS - 1,
        ray_remote_args_fn=pool,
        **_ONE_SHARD_PER_CALL,
    )


def _quarantine_all(stages: StageConfig, loaded: Dataset) -> Dataset:
    """Shards without units, and with the columns that predicted ones have."""
    return loaded.map_batches(
        skip_predict,
        fn_kwargs={"columns": stages.writer.columns},
        num_cpus=stages.resources.write_cpus,
        max_retries=ATTEMPTS_PER_PASS - 1,
        **_ONE_SHARD_PER_CALL,
    )


def _write(stages: StageConfig, predicted: Dataset, mode: PassMode) -> Dataset:
    apart = {} if mode is PassMode.NORMAL else {"isolated": True, "attempts": ATTEMPTS_PER_PASS}
    return predicted.map_batches(
        write,
        fn_kwargs={"writer": stages.writer} | apart,
        num_cpus=stages.resources.write_cpus,
        max_retries=ATTEMPTS_PER_PASS - 1,
        **_ONE_SHARD_PER_CALL,
    )


def _data_context(stall_timeout: float) -> DataContext:
    """A context of our own: a program that embeds a run keeps its settings."""
    context = DataContext.get_current().copy()
    # Every shard is its own block and flows on at once. Left alone, Ray gathers 128 MiB of them first, by a copy.
    context.target_max_block_size = 1
    context.target_min_block_size = 1
    context.max_errored_blocks = MAX_LOST_SHARDS
    context.execution_no_progress_timeout_s = stall_timeout
    context.execution_options.preserve_order = False
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    return context


def block_size(files: Sequence[PlanFile], done: Collection[int], cpus: float) -> int:
    """Plan rows a block: a million shards are not a million blocks, nor is one load task a thousand shards."""
    left = sum(file.shards for file in files) - len(done)
    return min(BLOCK_SHARDS, max(1, int(left // (4 * cpus))))


def plan_blocks(files: Sequence[PlanFile], done: Container[int], size: int) -> Iterator[pa.Table]:
    """Rows {file, sha256, row, shard} of the shards to run, by plan file, at most `size` of them a block."""
    for file in files:
        rows = [row for row in range(file.shards) if file.first_shard + row not in done]
        for begin in range(0, len(rows), size):
            block = rows[begin : begin + size]
            yield pa.table(
                {
                    "file": [file.name] * len(block),
                    "sha256": [file.sha256] * len(block),
                    "row": block,
                    "shard": [file.first_shard + row for row in block],
                }
            )
