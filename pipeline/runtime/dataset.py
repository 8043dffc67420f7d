"""The Ray Dataset of a pass: load → predict → write, a row a shard, with the settings that this rests on."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.util.annotations import RayDeprecationWarning

from pipeline.heads.base import Head
from pipeline.runtime.cluster import Resources
from pipeline.runtime.load import Loader, load
from pipeline.runtime.receipts import Receipt
from pipeline.runtime.replica import ModelRef, Replica
from pipeline.runtime.segments import PlanFile
from pipeline.runtime.write import Writer, write

BLOCK_SHARDS = 32  # a million shards are not a million blocks, nor is one load task a thousand shards
CONCURRENT_CALLS = 3  # one shard is collated, one computes, one leaves
ATTEMPTS = 2  # of a shard in one pass
RESTARTS = (
    64  # of one replica; an actor that is gone for good leaves the pool to stall, a shard's attempts end long before
)
ERRORED_BLOCKS = 32  # a pass goes on without these; the next one takes planned minus committed


@dataclass(frozen=True, kw_only=True)
class Stages:
    """What travels to the workers. All of it small: a replica is restarted from these."""

    loader: Loader
    model: ModelRef
    head: Head
    writer: Writer
    batch_size: int | str
    resources: Resources


def receipts(stages: Stages, files: Sequence[PlanFile], done: set[int]) -> Generator[Receipt]:
    """Run the shards of these plan files that are not done, and yield their receipts in the order they come.

    Closing the iterator stops the work.
    """
    blocks = list(plan_blocks(files, done, stages.resources.cpus))
    if not blocks:
        return
    rows = iter(build(stages, blocks).iter_rows())
    try:
        for row in rows:
            yield Receipt(**row)
    finally:
        rows.close()


def build(stages: Stages, blocks: Sequence[pa.Table]) -> Dataset:
    """The Dataset of these plan rows, not yet running."""
    with warnings.catch_warnings():
        # Retries have no named parameter, and without one a shard that kills its process is retried for ever. Copying a
        # context warns of settings that nobody made.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        with DataContext.current(_context()):
            return _chain(stages, ray.data.from_arrow(list(blocks)))


def _chain(stages: Stages, plan: Dataset) -> Dataset:
    resources = stages.resources
    batches = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
    replicas = ActorPoolStrategy(
        size=resources.replicas,
        max_concurrent_calls_per_actor=CONCURRENT_CALLS,
        enable_true_multi_threading=True,
    )
    loaded = plan.map_batches(
        load,
        fn_kwargs={"loader": stages.loader},
        num_cpus=resources.load_cpus,
        max_retries=ATTEMPTS - 1,
        **batches,
    )
    predicted = loaded.map_batches(
        Replica,
        fn_constructor_kwargs={"ref": stages.model, "head": stages.head, "batch_size": stages.batch_size},
        compute=replicas,
        num_cpus=resources.replica_cpus,
        num_gpus=resources.replica_gpus or None,
        max_restarts=RESTARTS,
        max_task_retries=ATTEMPTS - 1,
        **batches,
    )
    return predicted.map_batches(
        write,
        fn_kwargs={"writer": stages.writer},
        num_cpus=resources.write_cpus,
        max_retries=ATTEMPTS - 1,
        **batches,
    )


def _context() -> DataContext:
    """A context of our own: a program that embeds a run keeps its settings."""
    context = DataContext.get_current().copy()
    # Every shard is its own block and flows on at once. Left alone, Ray gathers 128 MiB of them first, by a copy.
    context.target_max_block_size = 1
    context.target_min_block_size = 1
    context.max_errored_blocks = ERRORED_BLOCKS
    context.execution_options.preserve_order = False
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    return context


def plan_blocks(files: Sequence[PlanFile], done: set[int], cpus: float) -> Iterator[pa.Table]:
    """Rows {file, sha256, row, shard} of the shards to run, by plan file, a few of them a block."""
    left = sum(file.shards for file in files) - len(done)
    size = min(BLOCK_SHARDS, max(1, int(left // (4 * cpus))))
    for file in files:
        shards = range(file.first_shard, file.first_shard + file.shards)
        rows = [row for row, shard in enumerate(shards) if shard not in done]
        for begin in range(0, len(rows), size):
            block = rows[begin : begin + size]
            yield pa.table(
                {
                    "file": [file.name] * len(block),
                    "sha256": [file.sha256] * len(block),
                    "row": block,
                    "shard": [shards[row] for row in block],
                }
            )
