"""One function call on the cluster, with the resources of a replica."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import ray

from pipeline.runtime.ray_backend.resources import Resources

P = ParamSpec("P")
R = TypeVar("R")


def call_with_replica_resources(resources: Resources, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Return `function(*args, **kwargs)`, computed in a Ray task with a replica's CPUs and GPUs."""
    task = ray.remote(function).options(num_cpus=resources.replica_cpus, num_gpus=resources.replica_gpus)
    result: R = ray.get(task.remote(*args, **kwargs))
    return result
