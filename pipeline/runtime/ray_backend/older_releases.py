"""What releases of Ray before 2.60 lack. Only this module tells the releases apart that are supported."""

from collections.abc import Collection
from typing import Any

import ray
import ray._private.state
from ray._private.worker import global_worker
from ray.data import ActorPoolStrategy

RELEASE = tuple(int(number) for number in ray.__version__.split(".")[:2])
HAS_CONCURRENT_CALLS = RELEASE >= (2, 59)
HAS_DRAINING_NODES = RELEASE >= (2, 60)


def pool_arguments(size: int, calls: int) -> dict[str, Any]:
    """Return the arguments of `map_batches` for a pool of `size` actors, of which each runs so many calls at once."""
    pool = {
        "size": size,
        # No queue (twice as long by default): shards would wait in it while other replicas are idle.
        "max_tasks_in_flight_per_actor": calls,
        "enable_true_multi_threading": True,
    }
    if HAS_CONCURRENT_CALLS:
        return {"compute": ActorPoolStrategy(**pool, max_concurrent_calls_per_actor=calls)}
    return {"compute": ActorPoolStrategy(**pool), "max_concurrency": calls}


def draining_nodes() -> Collection[str]:
    """Return the ids of nodes that are being drained. Raises RayError if the head does not answer."""
    if HAS_DRAINING_NODES:
        nodes: Collection[str] = global_worker.gcs_client.get_draining_nodes()
        return nodes
    return ray._private.state.state.get_draining_nodes()
