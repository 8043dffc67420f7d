"""A child process that is started at its first call, and again after its death."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Self, TypeAlias

import cloudpickle

from pipeline.sandbox.child_process import ChildProcess
from pipeline.sandbox.resource_limits import ResourceLimits

MakesResults: TypeAlias = Callable[..., Iterable[Any]]


class Sandbox:
    """Runs calls in a child process, up to `threads` in parallel; a further call waits until one of them ends.

    State of modules stays for the next call until the process dies. Close it, or use it as a context manager, to free
    the child's memory. The child always ends with this process.
    """

    def __init__(self, limits: ResourceLimits, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"threads ({threads}) must be at least 1")
        self.limits, self.threads = limits, threads
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for thread in range(threads):
            self._free.put(thread)
        self._lock = threading.Lock()
        self._process: ChildProcess | None = None
        self._pickle = lru_cache(maxsize=1)(cloudpickle.dumps)

    def run(self, function: MakesResults, *arguments: Any, seconds: float | None = None) -> Iterator[Any]:
        """Yield the results of `function(*arguments)`, each made in the child when it is requested here.

        If this iterator is closed early, so is the one in the child.

        Args:
            function: Returns an iterable. A value that a generator returns is its last result, which saves a message.
                It is sent by cloudpickle, once for calls in a row: bind what they share to it by `functools.partial`.
            arguments: Its arguments, sent by cloudpickle.
            seconds: Time limit per result of this call, in place of that of `limits`.

        Raises:
            Crashed, TimedOut: The process ended before the call did; both are Died.
            NotStarted: The process could not start to serve calls.
            Exception: What the function raises, or a stand-in whose class has the same name if it cannot be pickled.
        """
        thread = self._free.get()
        try:
            process, pickled = self._ready(function)
            yield from process.call(thread, pickled, arguments, seconds or self.limits.seconds)
        finally:
            self._free.put(thread)

    def renew(self) -> None:
        """Run further calls in another process; this one ends after its last call."""
        with self._lock:
            self._process = None

    def close(self) -> None:
        """End the process; the next call starts another one."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ready(self, function: MakesResults) -> tuple[ChildProcess, bytes]:
        """Return a living process, and the pickled function."""
        with self._lock:
            if self._process is None or not self._process.alive:
                self._process = ChildProcess(self.limits, self.threads)
            return self._process, self._pickle(function)
