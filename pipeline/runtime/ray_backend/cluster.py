"""The Ray cluster: connecting to it quietly, and what of it each stage takes."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray
import ray.data
from ray._private import ray_constants, services

from pipeline.runtime.driver.signals import handlers_kept
from pipeline.runtime.errors import UsageError, reason
from pipeline.runtime.options import RunOptions
from pipeline.runtime.ray_backend.auth import require_token
from pipeline.runtime.ray_backend.ray_logging import quiet_ray_data, quiet_start
from pipeline.runtime.stages.compute_thread import OPENMP_ENVIRONMENT

LOAD_CPUS, WRITE_CPUS = 0.5, 0.25
_SETTINGS = {
    "RAY_task_oom_retries": "4",  # of tasks that Ray's memory monitor ends; Ray's own default is for ever
    **OPENMP_ENVIRONMENT,
}


@dataclass(frozen=True, kw_only=True)
class Node:
    cpus: float
    gpus: float


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a run takes of the cluster. CPUs and GPUs are Ray's, of one load task, one replica, one write task."""

    device: str  # "cpu" or "cuda"
    dtype: str
    replicas: int
    replica_cpus: float
    replica_gpus: float
    load_cpus: float
    write_cpus: float
    threads: int  # of torch, in one replica
    cpus: float  # of the whole cluster


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Ray, connected to for the time of the block; the connection that a caller already has is used and left."""
    mine = not ray.is_initialized()
    if mine:
        named = address or os.environ.get("RAY_ADDRESS")
        try:
            require_token(address)  # what the environment names is the cluster that the process runs in
            with handlers_kept(), quiet_start():
                _connect(named)
        except (ConnectionError, ValueError) as error:
            raise UsageError(f"address ({named}) is not that of a Ray cluster: {reason(error)}") from error
    quiet_ray_data()
    try:
        yield
    finally:
        if mine:
            ray.shutdown()


def _connect(address: str | None) -> None:
    """To the cluster that is named; without a name to the one at hand, else to a new one that only this machine
    reaches."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    # Without a name: one that `ray start` made on this machine. "auto" would join any, another program's too.
    if address != "local" and (address or services.find_bootstrap_address(None)):
        ray.init(address=address, **quiet)
        return
    # Ray listens on every interface of the machine, but where it takes itself for one that has no other: then all of
    # its servers, and those of its workers, are on loopback.
    several = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        # It ends with the run. Its dashboard would take a second of the start, CPUs all the while, and more ports.
        ray.init(address="local", include_dashboard=False, **quiet)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = several


def nodes() -> list[Node]:
    """The nodes that are alive, with what Ray may place on them."""
    alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return [Node(cpus=found.get("CPU", 0.0), gpus=found.get("GPU", 0.0)) for found in alive]


def resolve(options: RunOptions, found: list[Node]) -> Resources:
    """Devices, precision and shares of a run on these nodes; UsageError where a replica could never be placed."""
    replicas = 1 if options.replicas == "auto" else options.replicas
    gpus = sum(node.gpus for node in found)
    device = options.device if options.device != "auto" else "cuda" if gpus else "cpu"
    dtype = options.dtype if options.dtype != "auto" else "bfloat16" if device == "cuda" else "float32"
    cpus = sum(node.cpus for node in found)
    widest = max((node.cpus for node in found), default=0.0)
    # Half of the CPUs at most, even without the widest node: replicas of a node that dies are started on the others,
    # and a pool that holds all CPUs while load and write have none stalls without an error.
    share = min((cpus - widest or cpus) / (2 * replicas), widest / 2)
    replica = Resources(
        device=device,
        dtype=dtype,
        replicas=replicas,
        replica_cpus=_floor(share if device == "cpu" else min(1.0, share)),
        replica_gpus=options.devices_per_replica if device == "cuda" else 0,
        load_cpus=LOAD_CPUS if cpus >= 2 else LOAD_CPUS / 2,
        write_cpus=WRITE_CPUS,
        threads=max(1, int(widest / math.ceil(replicas / max(1, len(found))))),
        cpus=cpus,
    )
    _check_placement(replica, found)
    return replica


def _check_placement(asked: Resources, found: list[Node]) -> None:
    if (places := sum(_places(asked, node) for node in found)) >= asked.replicas:
        return
    each = f"{asked.replica_cpus:g} CPUs" + (f" and {asked.replica_gpus:g} GPUs" if asked.replica_gpus else "")
    there = ", ".join(f"{node.cpus:g} CPUs and {node.gpus:g} GPUs" for node in found) or "no node"
    raise UsageError(
        f"replicas ({asked.replicas}) of {each} each on {asked.device} do not fit: the cluster has {there}, "
        f"room for {places}"
    )


def _places(asked: Resources, node: Node) -> int:
    by_cpu = int(node.cpus / asked.replica_cpus) if asked.replica_cpus else 0
    return min(by_cpu, int(node.gpus / asked.replica_gpus)) if asked.replica_gpus else by_cpu


def _floor(cpus: float) -> float:
    """Ray counts in ten-thousandths; two digits are enough and read well."""
    return math.floor(cpus * 100) / 100
