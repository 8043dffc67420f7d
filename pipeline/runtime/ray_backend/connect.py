"""Connection to a Ray cluster: the named one, the one of this machine, or a new local one."""

import importlib.metadata
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray
import ray.data
from ray._private import ray_constants
from ray.job_config import JobConfig

from pipeline.runtime.errors import UsageError, reason
from pipeline.runtime.ray_backend.auth import provide_token, require_token
from pipeline.runtime.ray_backend.cluster_address import ClusterAddress, find_address
from pipeline.runtime.ray_backend.head_watch import watched_head
from pipeline.runtime.ray_backend.ray_logging import hidden_error_messages, limited_ray_data_logs, suppress_startup_logs
from pipeline.runtime.ray_backend.session_folder import session_folder
from pipeline.runtime.ray_release import different_versions
from pipeline.runtime.signals import preserve_signal_handlers
from pipeline.runtime.stages.compute_thread import OPENMP_ENVIRONMENT
from pipeline.storage import redact

CONNECTION_ATTEMPTS = 3  # by Ray, each up to 40 seconds long, at an address where a server answers. Ray's default is 20
_SETTINGS = {
    "RAY_task_oom_retries": "4",  # of tasks that Ray's memory monitor kills; Ray's default is to retry them forever
    **OPENMP_ENVIRONMENT,
}


@contextmanager
def ray_connection(address: str | None) -> Iterator[None]:
    """Connect to Ray for the time of the block, or use the connection that the process has, which stays open."""
    if ray.is_initialized():
        with limited_ray_data_logs():
            yield
        return
    cluster = find_address(address)
    require_token(address)  # RAY_ADDRESS is the cluster in which this process runs
    if cluster:
        cluster.check()
    with hidden_error_messages(), nullcontext() if cluster else session_folder() as folder:
        try:
            _connect_or_explain(address, cluster, folder)
            with limited_ray_data_logs(), watched_head(cluster):
                yield
        finally:
            ray.shutdown()  # which ends the processes of an interrupted start, too


def _connect_or_explain(address: str | None, cluster: ClusterAddress | None, folder: str | None) -> None:
    """Connect, or start a cluster whose files are in `folder`.

    Raises UsageError if that fails, and KeyboardInterrupt on SIGTERM and SIGINT.
    """
    try:
        with preserve_signal_handlers(), suppress_startup_logs():
            _connect(address, cluster, folder)
    except Exception as error:
        if cluster is None:  # whatever Ray raises
            raise UsageError(f"Ray does not start on this machine: {reason(error)}") from error
        if mismatch := different_versions(error, redact(cluster.source)):
            raise mismatch from error
        if isinstance(error, ConnectionError | ValueError):
            raise cluster.refusal(error) from error
        raise
    except SystemExit:  # by the handler of SIGTERM that Ray sets while it starts
        raise KeyboardInterrupt("stopped by SIGTERM; the same command resumes the run") from None


def _connect(address: str | None, cluster: ClusterAddress | None, folder: str | None) -> None:
    """Connect to the cluster that was found for the option `address`; without one start a cluster on loopback."""
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not cluster or "://" not in cluster.address:  # Ray's client sends no working directory
        settings["job_config"] = _JobWithoutDriverFolders(_py_driver_sys_path=_uninstalled_project())
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if cluster:
        with _constant("NUM_REDIS_GET_RETRIES", CONNECTION_ATTEMPTS):
            ray.init(address=address or None, **settings)  # without an option it finds the same address
        return
    provide_token()
    # Ray listens on all interfaces unless it takes the machine for one that cannot be part of a cluster: then all of
    # its servers, and those of its workers, listen on loopback.
    with _constant("ENABLE_RAY_CLUSTER", False):
        # The cluster ends with the run. Its dashboard would cost a second at the start, CPU time and more ports.
        ray.init(address="local", include_dashboard=False, _temp_dir=folder, **settings)


@contextmanager
def _constant(name: str, value: object) -> Iterator[None]:
    """Change a constant of Ray in the block."""
    before = getattr(ray_constants, name)
    setattr(ray_constants, name, value)
    try:
        yield
    finally:
        setattr(ray_constants, name, before)


class _JobWithoutDriverFolders(JobConfig):
    """A job whose workers import nothing from the folders of the driver.

    Ray would put the driver's working directory and script directory before the installed packages of the workers, so
    that a `numpy.py` in them would run. It leaves them out of a job with a working directory of its own.
    """

    def _runtime_env_has_working_dir(self) -> bool:
        return True


def _uninstalled_project() -> list[str]:
    """Return the folder of this project if it is not installed: workers could not import it otherwise."""
    root = str(Path(__file__).parents[3])
    others = [folder for folder in sys.path if folder != root]
    installed = importlib.metadata.distributions(name="perceiver-pipeline", path=others)
    return [] if any(installed) else [root]
