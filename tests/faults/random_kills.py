"""Kill random processes of a run: the driver, or a worker of a stage, immediately or at a fault point."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Mapping

import psutil

from tests.faults.killed_runs import Points

# Per stage: a part of the process title, and the fault points that its processes pass.
STAGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "load": ("MapBatches(load)", ("load.begin", "load.unit", "load.end")),
    "replica": ("ReplicaActor)", ("predict.begin", "predict.end")),
    "write": (
        "MapBatches(write)",
        ("write.begin", "commit.part-before", "commit.part-put", "commit.quarantine-put", "write.end"),
    ),
}
POINT_TIMEOUT = 20.0  # seconds to wait for a process to reach a point


def kill_driver(driver: subprocess.Popen, points: Points, outlived: float) -> None:
    """Kill a driver; its workers may continue for `outlived` seconds and are then killed too."""
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    points.clear(outlived)


def kill_worker(driver: subprocess.Popen, points: Points, kind: str, chance: random.Random) -> bool:
    """Kill a worker of a stage of this run's own cluster; return False if none appeared in time."""
    title, names = STAGES[kind]
    point = chance.choice(names)
    if chance.random() < 0.5:
        candidates = [process for process in _workers(driver) if title in _title(process)]
        if candidates:
            chance.choice(candidates).kill()
            return True
    return _kill_at(driver, points, point)


def _kill_at(driver: subprocess.Popen, points: Points, point: str) -> bool:
    """Kill the first process that reaches a point."""
    before = len(points.taken(point))
    points.arm(point)
    deadline = time.monotonic() + POINT_TIMEOUT
    while len(points.taken(point)) == before and time.monotonic() < deadline and driver.poll() is None:
        time.sleep(0.05)
    (points.folder / point).unlink(missing_ok=True)
    return len(points.taken(point)) > before


def _workers(driver: subprocess.Popen) -> list[psutil.Process]:
    try:
        return psutil.Process(driver.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # gone
        return ""
