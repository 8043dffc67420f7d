"""Drained nodes: a replica exits before it takes another shard, and Ray restarts it on another node.

Ray places nothing new on a node that is being drained, but keeps calling the actors on it.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from pipeline.runtime.ray_backend.older_releases import draining_nodes

POLL_SECONDS = 5.0
FLUSH_SECONDS = 1.0  # for the result of the last call to leave the process


class DrainGate:
    """Gate around the calls of a replica. On a drained node it stays closed for new calls, and the process exits after
    the last call inside: Ray repeats the waiting calls on another node."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._last_poll, self._drained = 0.0, False

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Pass the gate for the time of one call."""
        with self._changed:
            while self._is_drained():
                if not self._inside:
                    time.sleep(FLUSH_SECONDS)
                    os._exit(1)
                self._changed.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def _is_drained(self) -> bool:
        if not self._drained and time.monotonic() - self._last_poll > POLL_SECONDS:
            self._last_poll, self._drained = time.monotonic(), node_is_drained()
        return self._drained


def node_is_drained() -> bool:
    """Return whether this process's node is being drained; False outside a cluster."""
    if not ray.is_initialized():
        return False
    try:
        drained = draining_nodes()
    except ray.exceptions.RayError:  # if the head does not answer, nothing is known about this node
        return False
    return ray.get_runtime_context().get_node_id() in drained
