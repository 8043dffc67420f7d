"""CPUs and GPUs that each stage takes of the cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass

import ray

from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions

LOAD_CPUS, WRITE_CPUS = 0.5, 0.25


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


def cluster_nodes() -> list[Node]:
    """The nodes that are alive, with what Ray may place on them."""
    alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return [Node(cpus=found.get("CPU", 0.0), gpus=found.get("GPU", 0.0)) for found in alive]


def resolve_resources(options: RunOptions, found: list[Node]) -> Resources:
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
