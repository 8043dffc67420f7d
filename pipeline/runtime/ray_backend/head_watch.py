"""Watch over the head of a cluster, which ends a run in words: Ray tries to reconnect for a minute, then gives up."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from pipeline.runtime.ray_backend.cluster_address import ClusterAddress
from pipeline.runtime.signals import stop_main_thread
from pipeline.storage import redact

PAUSE_SECONDS = 2.0  # between attempts to connect, and the longest of one
BEFORE_RAY_SECONDS = 20.0  # the run is stopped so long before Ray ends its process
_RAY_VARIABLE, _RAY_SECONDS = "RAY_gcs_rpc_server_reconnect_timeout_s", 60.0  # for which Ray tries to reconnect


@contextmanager
def watched_head(cluster: ClusterAddress | None) -> Iterator[None]:
    """Stop the run in the block, as a signal does, if the head of its cluster is gone: a head may be restarted.

    None, a local cluster, is not watched, and neither is the proxy of a `ray://` address.
    """
    if cluster is None or "://" in cluster.address:
        yield
        return
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    ended = threading.Event()
    arguments = (cluster.source, host.strip("[]"), int(port), ended)
    threading.Thread(target=_watch, args=arguments, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _watch(source: str, host: str, port: int, ended: threading.Event) -> None:
    allowed = max(PAUSE_SECONDS, float(os.environ.get(_RAY_VARIABLE, _RAY_SECONDS)) - BEFORE_RAY_SECONDS)
    answered = time.monotonic()
    while not ended.wait(PAUSE_SECONDS):
        if _answers(host, port):
            answered = time.monotonic()
        elif time.monotonic() - answered > allowed:
            stop_main_thread(f"the head of the Ray cluster at {redact(source)} died or cannot be reached")
            return


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=PAUSE_SECONDS):
            return True
    except OSError:
        return False
