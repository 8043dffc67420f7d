"""Nodes that are to go: a replica on one ends before it takes another shard, and Ray starts it anew elsewhere.

Ray places nothing new on a node that is being drained, but goes on calling the actors that are there.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private.worker import global_worker

POLL_SECONDS = 5.0
FLUSH_SECONDS = 1.0  # seconds for what the last call gave to leave the process


class DrainGate:
    """What the calls of a replica pass one by one. On a drained node it is shut, and with the last call inside done
    the process ends: the calls that wait are made again elsewhere."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._looked, self._drained = 0.0, False

    @contextmanager
    def enter(self) -> Iterator[None]:
        """For the time of one call."""
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
        """Whether this node is to go, as Ray's head knew POLL_SECONDS ago or later."""
        if not self._drained and time.monotonic() - self._looked > POLL_SECONDS:
            self._looked, self._drained = time.monotonic(), node_is_drained()
        return self._drained


def node_is_drained() -> bool:
    """Whether the node that this process runs on is being drained; False outside of a cluster."""
    if not ray.is_initialized():
        return False
    try:
        drained = global_worker.gcs_client.get_draining_nodes()
    except ray.exceptions.RayError:  # a head that does not answer says nothing of this node
        return False
    return ray.get_runtime_context().get_node_id() in drained
