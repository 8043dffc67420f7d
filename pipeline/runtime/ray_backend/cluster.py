"""The connected cluster: its nodes, and a call on one of them."""

from collections.abc import Callable
from typing import Any, TypeVar

import ray

from pipeline.runtime.ray_backend.failures import translate_ray_errors
from pipeline.runtime.ray_backend.resources import Node, Resources

R = TypeVar("R")


def cluster_nodes() -> list[Node]:
    """List the nodes of the connected cluster that are alive."""
    alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return [Node(cpus=resources.get("CPU", 0.0), gpus=resources.get("GPU", 0.0)) for resources in alive]


def call_with_replica_resources(resources: Resources, function: Callable[..., R], *arguments: Any) -> R:
    """Return `function(*arguments)`, computed in a Ray task with a replica's CPUs and GPUs."""
    task = ray.remote(function).options(num_cpus=resources.replica_cpus, num_gpus=resources.replica_gpus)
    with translate_ray_errors():
        return ray.get(task.remote(*arguments))
