"""CPUs and GPUs that each stage takes of the cluster."""

import math
from dataclasses import dataclass

from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions

LOAD_CPUS, WRITE_CPUS = 0.5, 0.25
DTYPES = {"cpu": "float32", "cuda": "bfloat16"}  # of replicas, by device, if the options leave it open


@dataclass(frozen=True, kw_only=True)
class Node:
    """CPUs and GPUs that Ray may place on a node of the cluster."""

    cpus: float
    gpus: float


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Resources of a run: Ray CPUs and GPUs of one load task, one replica and one write task."""

    device: str  # "cpu" or "cuda"
    dtype: str
    replicas: int
    replica_cpus: float
    replica_gpus: float
    load_cpus: float
    write_cpus: float
    threads: int  # of torch, in one replica
    cpus: float  # of the whole cluster


def resolve_resources(options: RunOptions, nodes: list[Node]) -> Resources:
    """Choose device, precision, number of replicas and shares of CPUs; UsageError if the replicas do not fit.

    `replicas` "auto" is one replica for every `devices_per_replica` GPUs of a node, or one replica on CPUs.
    """
    gpus = sum(node.gpus for node in nodes)
    device = options.device if options.device != "auto" else "cuda" if gpus else "cpu"
    dtype = options.dtype if options.dtype != "auto" else DTYPES[device]
    replica_gpus = options.devices_per_replica if device == "cuda" else 0
    places = sum(int(node.gpus // replica_gpus) for node in nodes) if replica_gpus else 1
    replicas = options.replicas if options.replicas != "auto" else max(1, places)
    cpus = sum(node.cpus for node in nodes)
    most_cpus = max((node.cpus for node in nodes), default=0.0)
    # At most half of the CPUs, not counting the largest node: replicas of a node that dies are restarted on the others,
    # and the run stalls without an error if replicas hold all CPUs and load and write have none.
    share = min((cpus - most_cpus or cpus) / (2 * replicas), most_cpus / 2)
    replica_cpus = share if device == "cpu" else min(1.0, share)
    resources = Resources(
        device=device,
        dtype=dtype,
        replicas=replicas,
        replica_cpus=math.floor(replica_cpus * 100) / 100,  # Ray accepts four digits; two are easier to read
        replica_gpus=replica_gpus,
        load_cpus=LOAD_CPUS if cpus >= 2 else LOAD_CPUS / 2,
        write_cpus=WRITE_CPUS,
        threads=max(1, int(most_cpus / math.ceil(replicas / max(1, len(nodes))))),
        cpus=cpus,
    )
    _check_placement(resources, nodes)
    return resources


def _check_placement(resources: Resources, nodes: list[Node]) -> None:
    places = sum(_places(resources, node) for node in nodes)
    if places >= resources.replicas:
        return
    needed = _amount(resources.replica_cpus, "CPU")
    needed += f" and {_amount(resources.replica_gpus, 'GPU')}" if resources.replica_gpus else ""
    available = ", ".join(f"{_amount(node.cpus, 'CPU')} and {_amount(node.gpus, 'GPU')}" for node in nodes) or "no node"
    raise UsageError(
        f"replicas ({resources.replicas}) do not fit on {resources.device}: each needs {needed}, but the "
        f"cluster has {available}, room for {places}. Lower --replicas or --devices-per-replica, or change --device"
    )


def _amount(number: float, name: str) -> str:
    """Return an amount of a resource, which may be a fraction: 1 CPU, 0.5 GPUs."""
    return f"{number:g} {name if number == 1 else f'{name}s'}"


def _places(resources: Resources, node: Node) -> int:
    """Number of replicas that fit on a node."""
    by_cpu = int(node.cpus / resources.replica_cpus) if resources.replica_cpus else 0
    return min(by_cpu, int(node.gpus / resources.replica_gpus)) if resources.replica_gpus else by_cpu
