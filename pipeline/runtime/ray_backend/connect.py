"""Connection to a Ray cluster: the named one, the one of this machine, or a new local one."""

import logging
import os
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import ray
import ray.data
from ray._private import ray_constants, services

from pipeline.runtime.errors import UsageError, reason
from pipeline.runtime.ray_backend.auth import require_token
from pipeline.runtime.ray_backend.ray_logging import limit_ray_data_logs, suppress_startup_logs
from pipeline.runtime.stages.compute_thread import OPENMP_ENVIRONMENT

_SETTINGS = {
    "RAY_task_oom_retries": "4",  # of tasks that Ray's memory monitor kills; Ray's default is to retry them forever
    **OPENMP_ENVIRONMENT,
}


@contextmanager
def ray_connection(address: str | None) -> Iterator[None]:
    """Connect to Ray for the time of the block, or use the connection that the process has, which stays open."""
    is_new = not ray.is_initialized()
    if is_new:
        named = address or os.environ.get("RAY_ADDRESS")
        try:
            require_token(address)  # RAY_ADDRESS is the cluster in which this process runs
            with preserve_signal_handlers(), suppress_startup_logs():
                _connect(named)
        except (ConnectionError, ValueError) as error:
            raise UsageError(f"no Ray cluster answers at address ({named}): {reason(error)}") from error
    limit_ray_data_logs()
    try:
        yield
    finally:
        if is_new:
            ray.shutdown()


@contextmanager
def preserve_signal_handlers() -> Iterator[Collection[int]]:
    """Restore the handlers of SIGTERM and SIGINT after the block, as `ray.init` replaces them.

    Yields the signals whose handlers can be set: none outside the main thread.
    """
    numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield before.keys()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _connect(address: str | None) -> None:
    """Connect to the named cluster; without a name to that of this machine, else start one on loopback."""
    logs = {"log_to_driver": False, "logging_level": logging.ERROR}
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    # Without a name, use only a cluster that `ray start` made: "auto" would also join one that another program started.
    if address != "local" and (address or services.find_bootstrap_address(None)):
        ray.init(address=address, **logs)
        return
    # Ray listens on all interfaces unless it takes the machine for one that cannot be part of a cluster: then all of
    # its servers, and those of its workers, listen on loopback.
    enabled = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        # The cluster ends with the run. Its dashboard would cost a second at the start, CPU time and more ports.
        ray.init(address="local", include_dashboard=False, **logs)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = enabled
