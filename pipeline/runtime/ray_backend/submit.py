"""Submission of a job file to a Ray cluster: check it here, run it there, return its log and exit code."""

import asyncio
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.runtime.early_checks import check_locations
from pipeline.runtime.errors import UsageError, reason
from pipeline.runtime.job_file import parse_job, read_bytes
from pipeline.runtime.options import RunOptions, require_task
from pipeline.runtime.ray_backend.auth import require_token
from pipeline.runtime.stages.compute_thread import OPENMP_ENVIRONMENT
from pipeline.storage import check_uri, redact
from pipeline.storage.uris import split_scheme

ENTRYPOINT = "python -m jobs.run --job job.yaml"
ANSWER_SECONDS = 15.0  # for the first answer of the dashboard
RECONNECT_SECONDS = 60.0  # during which a dashboard that stopped answering is retried
POLL_SECONDS = 1.0
_ADDRESS = "RAY_API_SERVER_ADDRESS"  # overrides RAY_ADDRESS, which overrides the argument
_VERBOSE_LOGGERS = (  # log each upload and each closed connection
    "ray._private.runtime_env.packaging",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)


@dataclass(frozen=True, kw_only=True)
class SubmittedJob:
    """A submitted job. `address`: URL of the cluster's dashboard, `http://HEAD:8265`."""

    id: str
    address: str

    @property
    def commands(self) -> list[str]:
        """The commands that show the job's log and stop the job, for messages."""
        logs, stop = f"ray job logs {self.id} --follow", f"ray job stop {self.id}"
        return [f"to follow it: {logs} --address {self.address}", f"to stop it:   {stop} --address {self.address}"]


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """Result of a job. `code`: exit code of the run, 0 to 3; 1 if the job was stopped or killed, or did not start."""

    code: int
    message: str  # from Ray, if the run ended without an exit code of its own; else empty


def submit(job: str, address: str, submission_id: str | None = None) -> SubmittedJob:
    """Submit a job file, by path or URI, to the cluster whose dashboard is at `address`.

    Only the file is sent: the project is installed on the cluster, which has its own credentials. Raises UsageError or
    AccessError if the file, the address or the id is wrong, or if the cluster rejects the job.
    """
    text = read_bytes(job)
    options = parse_job(job, text)
    _check_locations(job, options)
    name = submission_id or f"{options.task}-{secrets.token_hex(6)}"
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", name):
        raise UsageError(f"submission_id ({name}) must be up to 128 letters, digits, dots, dashes and underscores")
    client = _client(address)
    with tempfile.TemporaryDirectory(prefix="perceiver-job-") as folder, _usage_errors(f"{address} rejected the job"):
        (Path(folder) / "job.yaml").write_bytes(text)
        environment = {"working_dir": folder, "env_vars": OPENMP_ENVIRONMENT}
        client.submit_job(entrypoint=ENTRYPOINT, submission_id=name, runtime_env=environment)
    return SubmittedJob(id=name, address=address)


def follow(job: SubmittedJob, write: Callable[[str], object]) -> JobResult:
    """Wait for the end of a job; call `write` with each new piece of its log.

    Raises UsageError if the dashboard stops answering; the job itself may still be running.
    """
    client, log = _client(job.address), JobLog(write=write)
    last_answer = time.monotonic()
    while True:
        printed = log.printed
        try:
            asyncio.run(log.tail(client, job.id))
            info = client.get_job_info(job.id)
        except BrokenPipeError:  # the reader of the log is gone
            raise
        except Exception as error:  # noqa: BLE001 - Ray's client has no common class
            last_answer = time.monotonic() if log.printed > printed else last_answer
            if time.monotonic() - last_answer > RECONNECT_SECONDS:
                raise UsageError(
                    f"{job.address} no longer answers, and {job.id} may still be running: {reason(error)}"
                ) from None
        else:
            last_answer = time.monotonic()
            if info.status.is_terminal():
                return _result(info)
        time.sleep(POLL_SECONDS)


def _check_locations(job: str, options: RunOptions) -> None:
    """Raise UsageError if the task is unknown or a location is relative to a folder of this machine.

    AccessError if a location is wrong in itself.
    """
    try:
        require_task(options.task)
    except UsageError as error:
        raise UsageError(f"{redact(job)}: {error}") from None
    check_locations(options)
    for name in ("input", "output", "checkpoint", "from_latents"):
        if location := getattr(options, name):
            local = split_scheme(location)[0] is None and not location.startswith(("/", "~"))
            if local and (name != "checkpoint" or location.startswith(".") or Path(location).exists()):
                raise UsageError(
                    f"{redact(job)}: {name} ({location}) is relative to a folder of this machine, but the job runs on "
                    "the cluster: give a URI, or an absolute path that exists on every node"
                )


def _client(address: str) -> Any:
    """Connect Ray's client to the dashboard at this address."""
    if split_scheme(address)[0] not in ("http", "https"):
        raise UsageError(f"address ({redact(address)}) must be the URL of a Ray dashboard, as in http://HEAD:8265")
    check_uri(address)
    require_token(address)
    from ray.job_submission import JobSubmissionClient

    for name in _VERBOSE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    _check_dashboard(address)
    with _dashboard_address(address), _usage_errors(f"no Ray dashboard answers at {address}"):
        return JobSubmissionClient(address)


def _check_dashboard(address: str) -> None:
    """Raise UsageError if no server answers in time: Ray's client would wait without a limit."""
    import requests

    try:
        requests.get(address, timeout=ANSWER_SECONDS, stream=True, allow_redirects=False).close()
    except requests.RequestException as error:
        cause: BaseException = error
        while cause.__context__:
            cause = cause.__context__
        words = getattr(cause, "strerror", None) or reason(cause)
        raise UsageError(
            f"no Ray dashboard answers at {address}: {words}; start the cluster or correct the address"
        ) from None


@contextmanager
def _dashboard_address(address: str) -> Iterator[None]:
    """Set Ray's environment variable to this address in the block, because another value would override it."""
    before = os.environ.get(_ADDRESS)
    os.environ[_ADDRESS] = address
    try:
        yield
    finally:
        del os.environ[_ADDRESS]
        if before is not None:
            os.environ[_ADDRESS] = before


@contextmanager
def _usage_errors(what: str) -> Iterator[None]:
    """Raise UsageError for all errors of Ray and its HTTP client, which have no common class."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        trace = str(error).rstrip(".\n ")  # so that its last line is not empty
        raise UsageError(f"{what}: {reason(RuntimeError(trace))}") from None


@dataclass(kw_only=True)
class JobLog:
    """Log of a job. Each connection sends it from its beginning; each piece is written once."""

    write: Callable[[str], object]
    printed: int = 0  # characters

    async def tail(self, client: Any, job: str) -> None:
        """Write new pieces until the job or the connection ends."""
        at = 0
        async for piece in client.tail_job_logs(job):
            new = piece[max(0, self.printed - at) :]
            at += len(piece)
            if new:
                self.write(new)
                self.printed = at


def _result(info: Any) -> JobResult:
    if info.status != "STOPPED" and info.driver_exit_code in (0, 1, 2, 3):
        return JobResult(code=info.driver_exit_code, message="")
    code = 0 if info.status == "SUCCEEDED" else 1
    return JobResult(code=code, message=reason(RuntimeError(f"{info.status.value.lower()}: {info.message}")))
