"""Timers in memory that parent and child share: a child that hangs could not report how long its call takes."""

from __future__ import annotations

import mmap
import os
import tempfile
import time

_FIELDS = 4  # doubles per timer: start of the item (0: none), start of a storage wait (0: none), seconds waited, spare
_BYTES = 8 * _FIELDS


def create_timer_file(threads: int) -> int:
    """Return the descriptor of an unnamed file for the timers of a process and its threads."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("timers")
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    os.ftruncate(handle, _BYTES * (threads + 1))
    return handle


def map_timers(handle: int, threads: int) -> tuple[CallTimer, list[CallTimer]]:
    """Return the timers of the process and of its threads. Monotonic time is the same in all processes of a system."""
    shared = memoryview(mmap.mmap(handle, _BYTES * (threads + 1)))
    numbers: memoryview[float] = shared.cast("d")
    timers = [CallTimer(numbers[_FIELDS * at : _FIELDS * (at + 1)]) for at in range(threads + 1)]
    return timers[0], timers[1:]


class CallTimer:
    """Measures the time that a thread of the child works on an item, without its waits for storage.

    The thread writes it and the parent reads it. Between two writes the time that is read may be too short, never too
    long.
    """

    def __init__(self, numbers: memoryview[float]) -> None:
        self._numbers = numbers
        self._depth = 0

    def begin(self) -> None:
        """Start an item at 0 seconds."""
        self._depth = 0
        self._numbers[1] = 0.0
        self._numbers[0] = time.monotonic()
        self._numbers[2] = 0.0

    def stop(self) -> None:
        """End the item."""
        self._numbers[0] = 0.0

    def wait(self, waiting: bool) -> None:
        """Begin or end a wait for storage. A wait inside of a wait counts once."""
        self._depth = max(0, self._depth + (1 if waiting else -1))  # an item may have started during a wait
        if waiting and self._depth == 1:
            self._numbers[1] = time.monotonic()
        elif self._depth == 0 and self._numbers[1]:
            self._numbers[2] += time.monotonic() - self._numbers[1]
            self._numbers[1] = 0.0

    @property
    def runs(self) -> bool:
        """Whether the thread works on an item."""
        return self._numbers[0] != 0.0

    @property
    def seconds(self) -> float:
        """Time of the item so far, 0 if there is none."""
        begun, since, waited = self._numbers[0], self._numbers[1], self._numbers[2]
        if not begun:
            return 0.0
        now = time.monotonic()
        return now - begun - waited - (now - since if since else 0.0)
