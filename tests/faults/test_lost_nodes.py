"""Nodes that die or are drained during a run: every unit is predicted once, and a drained node gets no new shard.

Takes minutes: `pytest -m slow tests/faults/test_lost_nodes.py`.
"""

from __future__ import annotations

import dataclasses
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Self

import psutil
import pytest
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from pipeline.runtime.ray_backend.dataset import CONCURRENT_CALLS
from pipeline.runtime.ray_backend.drain import POLL_SECONDS
from pipeline.runtime.signals import preserve_signal_handlers
from tests.faults.killed_runs import Job, Points, assert_complete, ended, start

pytestmark = pytest.mark.slow

# Detect a dead raylet within seconds.
HEALTH = {f"RAY_health_check_{name}_ms": "1000" for name in ("initial_delay", "period", "timeout")}
HEALTH["RAY_health_check_failure_threshold"] = "5"


class Nodes:
    """A Ray cluster of a head without CPUs and two worker nodes."""

    def __init__(self) -> None:
        self.cluster = Cluster()

    def __enter__(self) -> Self:
        self._add(num_cpus=0, include_dashboard=False)  # the first one is the head
        for _ in range(2):
            self.add()
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.shutdown()

    @property
    def address(self) -> str:
        """The loopback address, for which a driver needs no token."""
        return f"127.0.0.1:{self.cluster.address.rpartition(':')[2]}"

    def add(self) -> None:
        """Add a node with two CPUs."""
        self._add(num_cpus=2)

    def _add(self, **given: Any) -> None:
        with preserve_signal_handlers():
            self.cluster.add_node(**given)

    def kill(self, node: Any) -> None:
        """Kill all processes of a node, as if its machine were lost."""
        self.cluster.remove_node(node, allow_graceful=False)

    def drain(self, node: Any) -> None:
        """Announce to the head that a node will be preempted, as a cloud provider does."""
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline = int(time.time() * 1000) + 600_000
        accepted, message = GcsClient(address=self.cluster.address).drain_node(node.node_id, reason, "a test", deadline)
        assert accepted, message

    def of(self, process: int) -> Any:
        """Return the node that a process runs on, or None if it has ended."""
        with suppress(psutil.Error):
            above = {parent.pid for parent in psutil.Process(process).parents()}
            for node in self.cluster.worker_nodes:
                if node.all_processes["raylet"][0].process.pid in above:
                    return node
        return None

    def holding(self, points: Points, point: str, driver: subprocess.Popen[str]) -> Any:
        """Return the node on which the next shard waits at a fault point."""
        while True:
            if (node := self.of(points.stopped(point, driver))) is not None:
                return node


@pytest.fixture
def run_and_nodes(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Job, Nodes]]:
    """A run of twelve shards, each with a damaged image, and the cluster for it."""
    run = job(24, damaged=range(0, 24, 2))
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        # The name is short because Ray puts sockets there, whose paths are limited.
        for name, value in (HEALTH | run.points.environment | {"RAY_TMPDIR": folder}).items():
            monkeypatch.setenv(name, value)
        with Nodes() as nodes:
            options = run.options.model_copy(update={"address": nodes.address, "replicas": 2})
            yield dataclasses.replace(run, options=options), nodes
        run.points.clear()


@pytest.mark.parametrize("point", ["load.end", "predict.begin", "predict.end", "write.begin", "commit.part-put"])
def test_two_lost_nodes_lose_no_unit(run_and_nodes, point):
    run, nodes = run_and_nodes
    driver = start(run.options, run.points)
    for _ in range(2):
        node = nodes.holding(run.points, point, driver)
        run.points.arm(point, action="stop")  # the shard reaches the point again on another node
        nodes.kill(node)
        nodes.add()
    run.points.release(point)
    ended(driver)
    assert_complete(run.output, run.good, run.bad)


def test_run_finishes_on_the_remaining_half_of_the_cluster(run_and_nodes):
    run, nodes = run_and_nodes
    driver = start(run.options.model_copy(update={"shard_size": 1}), run.points, "--stall-timeout", "120")
    nodes.kill(nodes.holding(run.points, "load.begin", driver))
    ended(driver)
    assert_complete(run.output, run.good, run.bad)


def test_drained_node_gets_no_new_shard_and_can_be_removed(run_and_nodes):
    run, nodes = run_and_nodes
    driver = start(run.options.model_copy(update={"replicas": 1}), run.points)
    held = [run.points.stopped("predict.begin", driver) for _ in range(CONCURRENT_CALLS)]
    assert len(set(held)) == 1, "all predicting calls are held"
    drained = nodes.of(held[0])
    nodes.drain(drained)
    time.sleep(POLL_SECONDS + 1)  # it may get shards until it learns of it
    run.points.release("predict.begin")
    after = run.points.stopped("predict.begin", driver)
    assert nodes.of(after) not in (None, drained)
    assert not psutil.pid_exists(held[0]), "its replica is gone"
    nodes.kill(drained)
    run.points.release("predict.begin")
    ended(driver)
    assert_complete(run.output, run.good, run.bad)
