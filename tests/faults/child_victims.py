"""Kills by chance: a worker of a stage, at whatever it is at or at a named point of its way, or the driver."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Mapping

import psutil

from tests.faults.killed_runs import Points

# By kind: what stands in the titles of its processes, and the points that these pass.
STAGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "load": ("MapBatches(load)", ("load.begin", "load.unit", "load.end")),
    "replica": ("ReplicaActor)", ("predict.begin", "predict.end")),
    "write": (
        "MapBatches(write)",
        ("write.begin", "commit.part-before", "commit.part-put", "commit.quarantine-put", "write.end"),
    ),
}
PATIENCE = 20.0  # seconds in which somebody comes by a point, or nobody is killed


def kill_driver(driver: subprocess.Popen, points: Points, outlived: float) -> None:
    """End a run as by SIGKILL; its workers may go on for so many seconds, then they are ended too."""
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    points.clear(outlived)


def kill_worker(driver: subprocess.Popen, points: Points, kind: str, chance: random.Random) -> bool:
    """End a worker of a stage of this run's own cluster; False where there was none within some seconds."""
    title, names = STAGES[kind]
    point = chance.choice(names)
    if chance.random() < 0.5:
        victims = [process for process in _workers(driver) if title in _title(process)]
        if victims:
            chance.choice(victims).kill()
            return True
    return _kill_at(driver, points, point)


def _kill_at(driver: subprocess.Popen, points: Points, point: str) -> bool:
    """Whoever comes by first is killed."""
    before = len(points.taken(point))
    points.arm(point)
    deadline = time.monotonic() + PATIENCE
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
