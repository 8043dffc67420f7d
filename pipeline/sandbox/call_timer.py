"""How long calls are at work, in memory that both processes see: a child that hangs could not tell any more."""

from __future__ import annotations

import mmap
import os
import tempfile
import time

_EACH = 4  # numbers of a thread: one was begun (0: none is), waiting since (0: it is not), seconds waited, spare
_BYTES = 8 * _EACH


def create_timer_file(threads: int) -> int:
    """The descriptor of a file without a name, for the times of so many threads and of their process."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("times")
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    os.ftruncate(handle, _BYTES * (threads + 1))
    return handle


def map_timers(handle: int, threads: int) -> tuple[CallTimer, list[CallTimer]]:
    """The process's clock and its threads'. In both processes a second is the same: monotonic time is the system's."""
    shared = memoryview(mmap.mmap(handle, _BYTES * (threads + 1)))
    numbers: memoryview[float] = shared.cast("d")
    clocks = [CallTimer(numbers[_EACH * at : _EACH * (at + 1)]) for at in range(threads + 1)]
    return clocks[0], clocks[1:]


class CallTimer:
    """Runs while an item is made, and stands still meanwhile when storage is waited for.

    One thread of the child moves it, the parent reads it. What a reader may see between two writes is at worst too
    short a time.
    """

    def __init__(self, numbers: memoryview[float]) -> None:
        self._numbers = numbers
        self._depth = 0

    def begin(self) -> None:
        """From 0."""
        self._depth = 0
        self._numbers[1] = 0.0
        self._numbers[0] = time.monotonic()
        self._numbers[2] = 0.0

    def stop(self) -> None:
        """Nothing is made any more."""
        self._numbers[0] = 0.0

    def wait(self, waiting: bool) -> None:
        """Storage is waited for from now on, or no longer. What is waited for inside of waiting counts once."""
        self._depth = max(0, self._depth + (1 if waiting else -1))  # it may have begun anew inside of waiting
        if waiting and self._depth == 1:
            self._numbers[1] = time.monotonic()
        elif self._depth == 0 and self._numbers[1]:
            self._numbers[2] += time.monotonic() - self._numbers[1]
            self._numbers[1] = 0.0

    @property
    def runs(self) -> bool:
        """Whether an item is being made."""
        return self._numbers[0] != 0.0

    @property
    def seconds(self) -> float:
        """That the item has taken, 0 where none is being made."""
        begun, since, waited = self._numbers[0], self._numbers[1], self._numbers[2]
        if not begun:
            return 0.0
        now = time.monotonic()
        return now - begun - waited - (now - since if since else 0.0)
