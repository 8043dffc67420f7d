"""Measure the memory of a driver, its raylet and its replicas over time, and its growth."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import psutil

PERIOD = 5.0  # seconds between two samples
WARM = 120.0  # seconds after the start of a process that are ignored, while it loads
LEAST = 24  # samples (two minutes) needed to fit a slope
MB = 1 << 20


class Sample(NamedTuple):
    """Age of the process in seconds, and sizes in MB.

    `own` is resident memory without shared pages, such as the object store of a raylet; `pss` counts those by share.
    """

    age: float
    rss: float
    pss: float
    own: float


@dataclass(frozen=True, kw_only=True)
class Life:
    """The samples of one process."""

    kind: str
    pid: int
    samples: Sequence[Sample]

    def quarters(self, size: str) -> list[int]:
        """Return a size in MB after each quarter of the samples."""
        count = len(self.samples)
        return [round(getattr(self.samples[max(0, count * part // 4 - 1)], size)) for part in (1, 2, 3, 4)]

    def summary(self) -> dict[str, Any]:
        """Return lifetime in minutes, first and last sizes in MB, and slopes in MB per hour or None."""
        counted = warm(self.samples)
        ends = {"first": counted[0], "last": counted[-1]} if counted else {}
        return {
            "kind": self.kind,
            "pid": self.pid,
            "minutes": round(self.samples[-1].age / 60, 1),
            **{
                f"{size}_{name}": round(getattr(end, size)) for name, end in ends.items() for size in Sample._fields[1:]
            },
            **{f"{size}_slope": slope([self], size) for size in Sample._fields[1:]},
        }


def warm(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples after the first two minutes of a process."""
    return [sample for sample in samples if sample.age >= WARM]


def slope(lives: Sequence[Life], size: str) -> float | None:
    """Return the growth of a size in MB per hour: one slope for all processes, with one intercept each.

    None if there are fewer than two minutes of samples.
    """
    ages, sizes = [], []
    for life in lives:
        counted = warm(life.samples)
        if len(counted) >= LEAST:
            age = np.array([sample.age / 3600 for sample in counted])
            found = np.array([getattr(sample, size) for sample in counted])
            ages.append(age - age.mean())
            sizes.append(found - found.mean())
    if not ages:
        return None
    age, found = np.concatenate(ages), np.concatenate(sizes)
    return round(float(age @ found / (age @ age)), 1)


class Watch:
    """Sample the driver returned by `driver`, its raylet and its replicas every five seconds during the block."""

    def __init__(self, driver: Callable[[], subprocess.Popen | None]) -> None:
        self._driver = driver
        self._samples: dict[tuple[str, int], list[Sample]] = defaultdict(list)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def lives(self) -> list[Life]:
        """The samples of every process, in order of appearance."""
        return [Life(kind=kind, pid=pid, samples=found) for (kind, pid), found in self._samples.items()]

    def _watch(self) -> None:
        while not self._over.wait(PERIOD):
            driver = self._driver()
            if driver is None or driver.poll() is not None:
                continue
            try:
                self._sample(psutil.Process(driver.pid))
            except psutil.Error:  # it was just killed
                continue

    def _sample(self, driver: psutil.Process) -> None:
        self._note("driver", driver)
        for process in driver.children():
            if process.name() == "raylet":
                self._note("raylet", process)
                for worker in process.children():
                    if "Replica" in worker.cmdline()[0]:  # Ray names its actors there
                        self._note("replica", worker)

    def _note(self, kind: str, process: psutil.Process) -> None:
        found = process.memory_full_info()
        sizes = (found.rss, found.pss, found.rss - found.shared)
        sample = Sample(time.time() - process.create_time(), *(size / MB for size in sizes))
        self._samples[kind, process.pid].append(sample)
