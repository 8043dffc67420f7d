"""Helpers to kill processes of a run at named fault points, and to start runs as a user does."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import field
from pathlib import Path

import psutil
from rich.console import Console

from pipeline.faultpoints import VARIABLE
from pipeline.runtime.driver import run
from pipeline.runtime.options import RunOptions
from pipeline.storage import Store
from tests.faults.output_invariants import assert_complete, assert_only_committed_parts

SECONDS = 600  # timeout of every wait, generous for a busy machine
KILLED = -9


@dataclasses.dataclass
class Points:
    """The folder of armed fault points; processes of a run are recognised by naming it in PERCEIVER_POINTS."""

    folder: Path
    seen: dict[str, set[int]] = field(default_factory=dict)
    returned: set[tuple[str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.folder.mkdir()

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of processes that obey the points."""
        return {VARIABLE: str(self.folder)}

    def arm(self, *points: str, action: str = "kill") -> None:
        """Make the next process that reaches each point die (`kill`) or wait (`stop`) there."""
        for point in points:
            unnamed = self.folder / f".{point}"
            unnamed.write_text(action)
            unnamed.rename(self.folder / point)

    def taken(self, point: str) -> list[int]:
        """Return the ids of all processes that waited or were killed at a point so far."""
        seen = self.seen.setdefault(point, set())
        seen.update(int(path.name.rpartition(".")[2]) for path in self.folder.glob(f"{point}.*"))
        return sorted(seen)

    def stopped(self, point: str, driver: subprocess.Popen[str] | None = None) -> int:
        """Return the id of the next process that waits at a point, arming it first if necessary."""
        if not (self.folder / point).exists() and not self._waiting(point):
            self.arm(point, action="stop")
        wait_for(lambda: bool(self._waiting(point)), driver)
        who = min(self._waiting(point), key=lambda who: who[1])
        self.returned.add(who)
        return int(who[0].rpartition(".")[2])

    def _waiting(self, point: str) -> list[tuple[str, int]]:
        """Return names and times of waits not yet returned by `stopped`; two calls of one process count twice."""
        found = [(path.name, path.stat().st_ctime_ns) for path in self.folder.glob(f"{point}.*")]
        return [who for who in found if who not in self.returned]

    def kill_again(self, point: str, times: int, driver: subprocess.Popen[str]) -> None:
        """Kill the processes that reach a point, one after another."""
        for _ in range(times):
            before = len(self.taken(point))
            self.arm(point)
            wait_for(lambda before=before: len(self.taken(point)) > before, driver)

    def release(self, point: str) -> None:
        """Release the waiting processes and disarm the point."""
        self.taken(point)
        for path in self.folder.glob(f"{point}*"):
            path.unlink()

    def processes(self) -> list[psutil.Process]:
        """Return the living processes that obey these points."""
        return [process for process in psutil.process_iter() if _variable_of(process) == str(self.folder)]

    def clear(self, seconds: float = 0.0) -> None:
        """Kill the processes that a killed driver leaves, after a grace period in seconds in which workers may commit.

        Disarms every point. Ray's helper processes would otherwise outlive the driver.
        """
        _, alive = psutil.wait_procs(self.processes(), timeout=seconds)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=10)
        for path in self.folder.iterdir():
            path.unlink()


def _variable_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(VARIABLE)
    except psutil.Error:  # gone, or another user's
        return None


def wait_for(condition: Callable[[], bool], driver: subprocess.Popen | None = None, seconds: float = SECONDS) -> None:
    """Return once the condition holds; fail after `seconds`, or if the driver ends first."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        assert driver is None or driver.poll() is None, "the driver ended before it could be killed"
        time.sleep(0.02)


def start(options: RunOptions, points: Points | None = None, *more: str) -> subprocess.Popen[str]:
    """Start `perceiver run` as a user does, with its own Ray cluster unless `options` name one."""
    flags = {"checkpoint": options.checkpoint, "address": options.address or "local"}
    flags |= {"shard-size": options.shard_size, "replicas": options.replicas, "max-quarantine": options.max_quarantine}
    command = [sys.executable, "-m", "jobs.run", options.task, options.input, options.output, "--no-report"]
    command += [f"--{name}={value}" for name, value in flags.items() if value is not None]
    environment = os.environ | (points.environment if points else {})
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *more], env=environment, **streams)


def ended(driver: subprocess.Popen[str]) -> str:
    """Wait for a run to exit with 0 and return its standard error."""
    _, printed = driver.communicate(timeout=2 * SECONDS)
    assert driver.returncode == 0, printed
    return " ".join(printed.split())


def execute(options: RunOptions) -> run.Summary:
    """Execute the run in this process."""
    return run.execute(options, console=Console(file=io.StringIO()))


def replicas() -> Iterator[psutil.Process]:
    """Yield the replica processes of this session's cluster, found by their titles."""
    for process in psutil.Process().children(recursive=True):
        try:
            if "MapWorker(MapBatches(ReplicaActor))" in " ".join(process.cmdline()):
                yield process
        except psutil.Error:
            continue


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A run over images, some of which are damaged."""

    options: RunOptions
    points: Points
    good: Collection[str]
    bad: Collection[str]

    @property
    def output(self) -> Store:
        return Store(self.options.output)

    def driver_killed_at(self, point: str, after: str | None = None) -> None:
        """Start a driver that dies at a point, optionally the first time after another point, and clean up after it."""
        if after is None:
            self.points.arm(point)
        else:
            self.points.arm(after, action="stop")
        driver = start(self.options, self.points)
        if after is not None:
            wait_for(lambda: self.points.taken(after) == [driver.pid], driver)
            self.points.arm(point)
            self.points.release(after)
        _, printed = driver.communicate(timeout=SECONDS)
        assert driver.returncode == KILLED, printed
        assert driver.pid in self.points.taken(point)
        self.points.clear()
        assert_only_committed_parts(self.output)

    def driver_killed_while_a_worker_is_at(self, point: str, *, outlived: bool) -> None:
        """Kill a driver while a shard is at a point. outlived: its workers may continue for some seconds."""
        driver = start(self.options, self.points)
        self.points.stopped(point, driver)
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
        if outlived:
            self.points.release(point)
        self.points.clear(5 if outlived else 0)
        assert_only_committed_parts(self.output)

    def finishes(self, *more: str) -> str:
        """Run the same command to the end, assert that every unit is there once, and return its standard error."""
        printed = ended(start(self.options, None, *more))
        assert_complete(self.output, self.good, self.bad)
        return printed
