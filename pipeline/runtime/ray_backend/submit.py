"""A job file handed to a running cluster: checked here, run there, its log and its exit code brought back."""

from __future__ import annotations

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

from pipeline.runtime.errors import UsageError, reason
from pipeline.runtime.job_file import parse_job, read_bytes
from pipeline.runtime.options import RunOptions, require_task
from pipeline.runtime.ray_backend.auth import require_token
from pipeline.runtime.stages.compute_thread import OPENMP_ENVIRONMENT
from pipeline.storage import check_uri, redact
from pipeline.storage.uris import split_scheme

ENTRYPOINT = "python -m jobs.run --job job.yaml"
RECONNECT_SECONDS = 60.0  # seconds in which a dashboard that stopped answering is asked again
POLL_SECONDS = 1.0
_ADDRESS = "RAY_API_SERVER_ADDRESS"  # before any argument, and before RAY_ADDRESS, which is before it too
_VERBOSE_LOGGERS = (  # of uploads and of the end of each connection
    "ray._private.runtime_env.packaging",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, kw_only=True)
class SubmittedJob:
    """A job that a cluster has taken. `address`: of its dashboard, `http://HEAD:8265`."""

    id: str
    address: str

    @property
    def logs_command(self) -> str:
        """The command that shows its log."""
        return f"ray job logs {self.id} --follow --address {self.address}"

    @property
    def stop_command(self) -> str:
        """The command that ends it."""
        return f"ray job stop {self.id} --address {self.address}"


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """How a job ended. `code`: that of the run, 0 to 3; 1 where it was stopped or killed, or never began."""

    code: int
    message: str  # Ray's own words, of a run that could not say why it ended; else empty


def submit(job: str, address: str, submission_id: str | None = None) -> SubmittedJob:
    """Hand a job file, by path or URI, to the cluster whose dashboard is at `address`.

    Only the file travels: the project is installed there, and credentials are the cluster's own. UsageError or
    AccessError where the file, the address or the id is wrong, or where the cluster does not take the job.
    """
    text = read_bytes(job)
    options = parse_job(job, text)
    _check_locations(job, options)
    name = submission_id or f"{options.task}-{secrets.token_hex(6)}"
    if not _ID.fullmatch(name):
        raise UsageError(f"submission_id ({name}) must be up to 128 letters, digits, dots, dashes and underscores")
    client = _client(address)
    with tempfile.TemporaryDirectory(prefix="perceiver-job-") as folder, _usage_errors(f"{address} took no job"):
        (Path(folder) / "job.yaml").write_bytes(text)
        environment = {"working_dir": folder, "env_vars": OPENMP_ENVIRONMENT}
        client.submit_job(entrypoint=ENTRYPOINT, submission_id=name, runtime_env=environment)
    return SubmittedJob(id=name, address=address)


def follow(job: SubmittedJob, write: Callable[[str], object]) -> JobResult:
    """Wait for the end of a job; `write` is called with its log, piece by piece, as it grows.

    UsageError where its dashboard no longer answers: the job itself may well go on.
    """
    client, log = _client(job.address), JobLog(write=write)
    since = time.monotonic()
    while True:
        printed = log.printed
        try:
            asyncio.run(log.tail(client, job.id))
            known = client.get_job_info(job.id)
        except BrokenPipeError:  # nobody reads what is said
            raise
        except Exception as error:
            since = time.monotonic() if log.printed > printed else since
            if time.monotonic() - since > RECONNECT_SECONDS:
                raise UsageError(f"{job.address} no longer answers: {reason(error)}") from error
        else:
            since = time.monotonic()
            if known.status.is_terminal():
                return _result(known)
        time.sleep(POLL_SECONDS)


def _check_locations(job: str, options: RunOptions) -> None:
    """What can be known here: the task, and that places mean the same on every machine."""
    try:
        require_task(options.task)
    except UsageError as error:
        raise UsageError(f"{redact(job)}: {error}") from None
    places = {name: getattr(options, name) for name in ("input", "output", "checkpoint", "from_latents")}
    for name, place in places.items():
        if place:
            check_uri(place)
            local = split_scheme(place)[0] is None and not place.startswith(("/", "~"))
            if local and (name != "checkpoint" or place.startswith(".") or Path(place).exists()):
                raise UsageError(
                    f"{redact(job)}: {name} ({place}) is relative to a folder of this machine, and the job runs on "
                    "another: give a URI, or an absolute path that every node of the cluster has"
                )


def _client(address: str) -> Any:
    """Ray's client of the dashboard at this address, and at no other; connected."""
    if split_scheme(address)[0] not in ("http", "https"):
        raise UsageError(f"address ({redact(address)}) is not that of a dashboard, as in http://HEAD:8265")
    check_uri(address)
    require_token(address)
    from ray.job_submission import JobSubmissionClient

    for name in _VERBOSE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    with _dashboard_address(address), _usage_errors(f"no Ray dashboard answers at {address}"):
        return JobSubmissionClient(address)


@contextmanager
def _dashboard_address(address: str) -> Iterator[None]:
    """For the time of the block Ray's variable names this address: else another one could go before it."""
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
    """UsageError for whatever Ray and its HTTP client raise: they share no class."""
    try:
        yield
    except Exception as error:
        said = str(error).rstrip(".\n ")  # of a trace that the cluster sends, the last line with words
        raise UsageError(f"{what}: {reason(RuntimeError(said))}") from error


@dataclass(kw_only=True)
class JobLog:
    """What a job prints. Each connection tells it from its beginning; each piece is said once."""

    write: Callable[[str], object]
    printed: int = 0  # characters

    async def tail(self, client: Any, job: str) -> None:
        """Say what is new, until the job ends or the connection does."""
        at = 0
        async for piece in client.tail_job_logs(job):
            new = piece[max(0, self.printed - at) :]
            at += len(piece)
            if new:
                self.write(new)
                self.printed = at


def _result(known: Any) -> JobResult:
    if known.status != "STOPPED" and known.driver_exit_code in (0, 1, 2, 3):
        return JobResult(code=known.driver_exit_code, message="")
    code = 0 if known.status == "SUCCEEDED" else 1
    return JobResult(code=code, message=reason(RuntimeError(f"{known.status.value.lower()}: {known.message}")))
