"""What kill tests share: points to arm, and runs as a user starts them, whose processes die there."""

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
from pipeline.runtime import RunOptions
from pipeline.runtime.driver import run
from pipeline.storage import Store
from tests.faults.whole_output import assert_nothing_but_parts, assert_whole

SECONDS = 600  # in which anything that a test waits for has come, on a machine that others share
KILLED = -9


@dataclasses.dataclass
class Points:
    """A folder that PERCEIVER_POINTS names to processes, which is how these are told from others."""

    folder: Path
    seen: dict[str, set[int]] = field(default_factory=dict)
    told: set[tuple[str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.folder.mkdir()

    @property
    def environment(self) -> dict[str, str]:
        """Of processes for which the points count."""
        return {VARIABLE: str(self.folder)}

    def arm(self, *points: str, action: str = "kill") -> None:
        """The next process to reach each of them ends there, or waits."""
        for point in points:
            unnamed = self.folder / f".{point}"
            unnamed.write_text(action)
            unnamed.rename(self.folder / point)

    def taken(self, point: str) -> list[int]:
        """The processes that have taken it so far, by their ids: those that wait, and those that were killed."""
        seen = self.seen.setdefault(point, set())
        seen.update(int(path.name.rpartition(".")[2]) for path in self.folder.glob(f"{point}.*"))
        return sorted(seen)

    def stopped(self, point: str, driver: subprocess.Popen[str] | None = None) -> int:
        """The next process that waits at a point, which is armed first unless it is or somebody waits."""
        if not (self.folder / point).exists() and not self._waiting(point):
            self.arm(point, action="stop")
        wait_for(lambda: bool(self._waiting(point)), driver)
        who = min(self._waiting(point), key=lambda who: who[1])
        self.told.add(who)
        return int(who[0].rpartition(".")[2])

    def _waiting(self, point: str) -> list[tuple[str, int]]:
        """Names and times of those at a point that nobody was told of; two calls of one process are two."""
        found = [(path.name, path.stat().st_ctime_ns) for path in self.folder.glob(f"{point}.*")]
        return [who for who in found if who not in self.told]

    def kill_again(self, point: str, times: int, driver: subprocess.Popen[str]) -> None:
        """Kill whoever reaches a point, one process after another."""
        for _ in range(times):
            before = len(self.taken(point))
            self.arm(point)
            wait_for(lambda before=before: len(self.taken(point)) > before, driver)

    def release(self, point: str) -> None:
        """Let those go on that wait there, and nobody else wait."""
        self.taken(point)
        for path in self.folder.glob(f"{point}*"):
            path.unlink()

    def processes(self) -> list[psutil.Process]:
        """Those that are alive."""
        return [process for process in psutil.process_iter() if _variable_of(process) == str(self.folder)]

    def clear(self, seconds: float = 0.0) -> None:
        """End what a killed driver leaves behind, after so many seconds in which its workers may commit what they are
        at. Ray's helpers outlive them, and are of no use to anyone. Nothing is armed any more."""
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
    """Return once the condition holds, before the driver has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        assert driver is None or driver.poll() is None, "the driver ended before it could be killed"
        time.sleep(0.02)


def start(options: RunOptions, points: Points | None = None, *more: str) -> subprocess.Popen[str]:
    """`perceiver run` as a user starts it, with a Ray cluster of its own where `options` name no other."""
    flags = {"checkpoint": options.checkpoint, "address": options.address or "local"}
    flags |= {"shard-size": options.shard_size, "replicas": options.replicas, "max-quarantine": options.max_quarantine}
    command = [sys.executable, "-m", "jobs.run", options.task, options.input, options.output]
    command += [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    environment = os.environ | (points.environment if points else {})
    told = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *more], env=environment, **told)


def ended(driver: subprocess.Popen[str]) -> str:
    """What a run says on standard error, which has then ended with 0."""
    _, said = driver.communicate(timeout=2 * SECONDS)
    assert driver.returncode == 0, said
    return " ".join(said.split())


def execute(options: RunOptions) -> run.Summary:
    """The same run in this process."""
    return run.execute(options, console=Console(file=io.StringIO()))


def replicas() -> Iterator[psutil.Process]:
    """The replicas' processes of this session's cluster, by their titles."""
    for process in psutil.Process().children(recursive=True):
        try:
            if "MapWorker(MapBatches(ReplicaActor))" in " ".join(process.cmdline()):
                yield process
        except psutil.Error:
            continue


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A run of pictures, some of them damaged."""

    options: RunOptions
    points: Points
    good: Collection[str]
    bad: Collection[str]

    @property
    def output(self) -> Store:
        return Store(self.options.output)

    def driver_killed_at(self, point: str, after: str | None = None) -> None:
        """A driver that dies at a point, where asked at the first time after another one. What it leaves is seen by
        nobody but the next one."""
        if after is None:
            self.points.arm(point)
        else:
            self.points.arm(after, action="stop")
        driver = start(self.options, self.points)
        if after is not None:
            wait_for(lambda: self.points.taken(after) == [driver.pid], driver)
            self.points.arm(point)
            self.points.release(after)
        _, said = driver.communicate(timeout=SECONDS)
        assert driver.returncode == KILLED, said
        assert driver.pid in self.points.taken(point)
        self.points.clear()
        assert_nothing_but_parts(self.output)

    def driver_killed_while_a_worker_is_at(self, point: str, *, outlived: bool) -> None:
        """A driver that is killed while a shard is at a point. outlived: its workers then go on as far as they come."""
        driver = start(self.options, self.points)
        self.points.stopped(point, driver)
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
        if outlived:
            self.points.release(point)
        self.points.clear(5 if outlived else 0)
        assert_nothing_but_parts(self.output)

    def finishes(self, *more: str) -> str:
        """The same command, undisturbed, ends with 0; what it said, and every unit is there once."""
        said = ended(start(self.options, None, *more))
        assert_whole(self.output, self.good, self.bad)
        return said
