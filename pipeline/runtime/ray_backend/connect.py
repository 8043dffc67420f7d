"""Connecting to a Ray cluster: the one that is named, the one on this machine, or a new local one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import ray.data
from ray._private import ray_constants, services

from pipeline.runtime.driver.signals import preserve_signal_handlers
from pipeline.runtime.errors import UsageError, reason
from pipeline.runtime.ray_backend.auth import require_token
from pipeline.runtime.ray_backend.ray_logging import limit_ray_data_logs, suppress_startup_logs
from pipeline.runtime.stages.compute_thread import OPENMP_ENVIRONMENT

_SETTINGS = {
    "RAY_task_oom_retries": "4",  # of tasks that Ray's memory monitor ends; Ray's own default is for ever
    **OPENMP_ENVIRONMENT,
}


@contextmanager
def ray_connection(address: str | None) -> Iterator[None]:
    """Ray, connected to for the time of the block; the connection that a caller already has is used and left."""
    mine = not ray.is_initialized()
    if mine:
        named = address or os.environ.get("RAY_ADDRESS")
        try:
            require_token(address)  # what the environment names is the cluster that the process runs in
            with preserve_signal_handlers(), suppress_startup_logs():
                _connect(named)
        except (ConnectionError, ValueError) as error:
            raise UsageError(f"address ({named}) is not that of a Ray cluster: {reason(error)}") from error
    limit_ray_data_logs()
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
