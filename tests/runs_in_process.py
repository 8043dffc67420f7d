"""Run the stages of each shard one after another in this process, in place of Ray.

A run on Ray takes five seconds, most of it for worker processes. Tests of what the stages do with their inputs run here
by default, and on Ray too if slow tests are selected. What Ray adds is tested on Ray only: several processes, crashes
and their passes, stalls, resources.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext

import pytest
import ray.cloudpickle

from pipeline.runtime.driver import estimate
from pipeline.runtime.plan.plan_files import PlanFile
from pipeline.runtime.ray_backend import cluster, connect, dataset
from pipeline.runtime.ray_backend.dataset import plan_blocks
from pipeline.runtime.ray_backend.passes import PassMode, StageConfig
from pipeline.runtime.ray_backend.resources import Node
from pipeline.runtime.records.receipts import Receipt, receipt_in_row
from pipeline.runtime.stages import isolated_reader
from pipeline.runtime.stages.load import load
from pipeline.runtime.stages.predict import Replica
from pipeline.runtime.stages.write import write


def use_this_process(patch: pytest.MonkeyPatch) -> None:
    """Run without Ray until `patch` is undone, as on a cluster of two CPUs."""
    patch.setattr(connect, "ray_connection", lambda _: nullcontext())
    patch.setattr(cluster, "cluster_nodes", lambda: [Node(cpus=2, gpus=0)])
    patch.setattr(dataset, "run_shards", run_shards)
    patch.setattr(estimate, "call_with_replica_resources", lambda _, function, *arguments: function(*arguments))


def run_shards(
    stages: StageConfig, files: Sequence[PlanFile], done: Collection[int], mode: PassMode = PassMode.NORMAL
) -> Iterator[Receipt]:
    """Run the shards that are not done and yield their receipts, in the order of the plan.

    An exception of a stage fails the run at once, where Ray would leave the shard to the next pass.
    """
    assert mode is PassMode.NORMAL, "crashes need the processes of Ray"
    _end_readers_of_other_stores()
    stages = pickle.loads(ray.cloudpickle.dumps(stages))  # as workers get them
    replica = Replica(**stages.replica)
    for planned in plan_blocks(files, done, 1):
        receipts = write(replica(load(planned, loader=stages.loader)), writer=stages.writer)
        yield from map(receipt_in_row, receipts.to_pylist())


def _end_readers_of_other_stores() -> None:
    """End the child processes of earlier tests whose S3 server or proxy was another one."""
    stores = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    if stores != _stores:
        isolated_reader.shared_sandbox.cache_clear()
        _stores.clear()
        _stores.update(stores)


_stores: dict[str, str] = {}
