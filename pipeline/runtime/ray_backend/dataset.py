"""The Ray Dataset of a pass: load → predict → write, one row per shard, and the Ray settings that this needs."""

import uuid
import warnings
from collections.abc import Callable, Collection, Container, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeAlias

import pyarrow as pa
import ray
import ray.data
from ray.data import DataContext, Dataset
from ray.util.annotations import RayDeprecationWarning

from pipeline.runtime.plan.plan_files import PlanFile
from pipeline.runtime.ray_backend.failures import translate_ray_errors
from pipeline.runtime.ray_backend.older_releases import pool_arguments
from pipeline.runtime.ray_backend.passes import MAX_LOST_SHARDS, PassMode, StageConfig
from pipeline.runtime.ray_backend.replica_actors import IsolatedReplicaActor, ReplicaActor
from pipeline.runtime.records.receipts import Receipt, receipt_in_row
from pipeline.runtime.stages.isolated_replica import MICRO_BATCH_SECONDS
from pipeline.runtime.stages.load import DEFAULT_UNIT_LIMITS, load, skip_predict
from pipeline.runtime.stages.write import write

BLOCK_SHARDS = 32
CONCURRENT_CALLS = 3  # one shard is being collated, one computed, one sent on
ATTEMPTS_PER_PASS = 2  # of a shard
DATASET_SHARDS = 20_000  # Ray Data keeps 7 kB for each finished shard until its Dataset ends
# More than the attempts of all shards that may crash: Ray Data stalls if a replica is not restarted.
RESTARTS_PER_REPLICA = 4 * MAX_LOST_SHARDS
_ONE_SHARD_PER_CALL = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}

ReplicaOptions: TypeAlias = Callable[[], dict[str, str]]
"""Returns Ray options for the next replica."""


def run_shards(
    stages: StageConfig, files: Sequence[PlanFile], done: Collection[int], mode: PassMode = PassMode.NORMAL
) -> Generator[Receipt]:
    """Run the shards of these plan files that are not done; yield their receipts in the order of completion.

    Closing the generator stops the work. Raises Stalled or TooManyCrashes.
    """
    size = block_size(files, done, stages.resources.cpus) if mode is PassMode.NORMAL else 1
    blocks = list(plan_blocks(files, done, size))
    blocks_per_dataset = max(1, DATASET_SHARDS // size)
    for begin in range(0, len(blocks), blocks_per_dataset):
        with named_replicas() as options:
            dataset = build_dataset(stages, blocks[begin : begin + blocks_per_dataset], options, mode)
            with closing(iter(dataset.iter_rows())) as rows, translate_ray_errors():
                for row in rows:
                    yield receipt_in_row(row)


@contextmanager
def named_replicas() -> Iterator[ReplicaOptions]:
    """Yield options that name each replica, and kill the replicas after the block.

    Ray Data ends an actor by dropping its handle. An actor that is being restarted at that moment survives and keeps
    its resources: after two such passes nothing else could be placed.
    """
    names: list[str] = []

    def next_options() -> dict[str, str]:
        names.append(f"replica-{uuid.uuid4().hex}")
        return {"name": names[-1]}

    try:
        yield next_options
    finally:
        for name in names:
            with suppress(ValueError, ray.exceptions.RayError):  # the actor, or the cluster, is gone
                ray.kill(ray.get_actor(name))


def build_dataset(
    stages: StageConfig, blocks: Sequence[pa.Table], options: ReplicaOptions, mode: PassMode = PassMode.NORMAL
) -> Dataset:
    """Return the Dataset of these plan rows, not yet running."""
    with warnings.catch_warnings():
        # `max_retries` has no named parameter, and without it a shard that crashes its worker is retried forever.
        # Copying a context warns about settings that this code does not make.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        # In isolation, several units in a row may run into the time limit of the child before a shard is complete.
        stall = stages.stall_timeout if mode is PassMode.NORMAL else max(stages.stall_timeout, 4 * MICRO_BATCH_SECONDS)
        with DataContext.current(_data_context(stall)):
            plan = ray.data.from_arrow(list(blocks))
            predicted = _predict(stages, _load(stages, plan, mode), plan, options, mode)
            isolation = {} if mode is PassMode.NORMAL else {"isolated": True, "attempts": ATTEMPTS_PER_PASS}
            return _map_in_tasks(predicted, write, stages.resources.write_cpus, writer=stages.writer, **isolation)


def _load(stages: StageConfig, plan: Dataset, mode: PassMode) -> Dataset:
    loader = stages.loader
    if mode is not PassMode.NORMAL:
        limits = loader.limits or DEFAULT_UNIT_LIMITS
        loader = replace(loader, limits=limits, abandoned=mode is PassMode.QUARANTINE_ALL)
    return _map_in_tasks(plan, load, stages.resources.load_cpus, loader=loader)


def _predict(stages: StageConfig, loaded: Dataset, plan: Dataset, options: ReplicaOptions, mode: PassMode) -> Dataset:
    resources, isolated = stages.resources, mode is PassMode.ISOLATED
    if mode is PassMode.QUARANTINE_ALL:
        return _map_in_tasks(loaded, skip_predict, resources.write_cpus, columns=stages.writer.columns)
    replicas = min(resources.replicas, plan.count())  # one more would load its model for nothing
    return loaded.map_batches(
        IsolatedReplicaActor if isolated else ReplicaActor,
        fn_constructor_kwargs=stages.replica | ({"attempts": ATTEMPTS_PER_PASS} if isolated else {}),
        **pool_arguments(replicas, calls=1 if isolated else CONCURRENT_CALLS),
        num_cpus=resources.replica_cpus,
        num_gpus=resources.replica_gpus or None,
        max_restarts=RESTARTS_PER_REPLICA,
        max_task_retries=ATTEMPTS_PER_PASS - 1,
        ray_remote_args_fn=options,
        **_ONE_SHARD_PER_CALL,
    )


def _map_in_tasks(dataset: Dataset, function: Callable[..., pa.Table], num_cpus: float, **arguments: Any) -> Dataset:
    retries = ATTEMPTS_PER_PASS - 1
    return dataset.map_batches(
        function, fn_kwargs=arguments, num_cpus=num_cpus, max_retries=retries, **_ONE_SHARD_PER_CALL
    )


def _data_context(stall_timeout: float) -> DataContext:
    """Return a context of this pass, so that a program that embeds a run keeps its own settings."""
    context = DataContext.get_current().copy()
    # Each shard is one block and moves on at once. By default Ray copies blocks together until they hold 128 MiB.
    context.target_max_block_size = context.target_min_block_size = 1
    context.max_errored_blocks = MAX_LOST_SHARDS
    context.execution_no_progress_timeout_s = stall_timeout
    context.execution_options.preserve_order = False
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    return context


def block_size(files: Sequence[PlanFile], done: Collection[int], cpus: float) -> int:
    """Return the number of plan rows per block: large enough for a million shards, small enough to use all CPUs."""
    remaining = sum(file.shards for file in files) - len(done)
    return min(BLOCK_SHARDS, max(1, int(remaining // (4 * cpus))))


def plan_blocks(files: Sequence[PlanFile], done: Container[int], size: int) -> Iterator[pa.Table]:
    """Yield rows {file, sha256, row, shard} of the shards to run, at most `size` per block, each block of one file."""
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
