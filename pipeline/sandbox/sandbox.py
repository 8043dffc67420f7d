"""The handle of a child process that is started when it is needed, and again after its death."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import cloudpickle

from pipeline.sandbox.child_process import ChildProcess
from pipeline.sandbox.resource_limits import ResourceLimits


class Sandbox:
    """Runs calls in a process of its own, up to `threads` at once; a further one waits for one of them to end.

    What a function leaves in its module stays there for the next call, until the process dies. Use it as a context
    manager, or close it: it takes memory as long as it is there. It ends when this process does in any case.
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
        self._last: tuple[Callable[..., Any], bytes] | None = None

    def run(
        self, function: Callable[..., Iterable[Any]], *arguments: Any, seconds: float | None = None
    ) -> Iterator[Any]:
        """The results of `function(*arguments)` in the child, each made there when it is asked for here.

        What a generator function returns, and does not yield, is its last result: it saves a way to and fro. Where this
        iterator is closed early, so is the one there. What the function raises is raised here; an error
        that cannot leave its process has a stand-in whose class is called the same. Raises Crashed or TimedOut, both
        Died, where the process ends before the call does, and NotStarted where it never began.

        Function and arguments go by cloudpickle, the function once for calls in a row: what many calls have in common
        is best bound to it by `functools.partial`. seconds: for each result of this call, in place of the limit's.
        """
        thread = self._free.get()
        try:
            process, pickled = self._ready(function)
            yield from process.call(thread, pickled, arguments, seconds or self.limits.seconds)
        finally:
            self._free.put(thread)

    def renew(self) -> None:
        """Have further calls run in another process; this one ends once those are done that are in it."""
        with self._lock:
            self._process = None

    def close(self) -> None:
        """End the process; a further run starts another."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ready(self, function: Callable[..., Any]) -> tuple[ChildProcess, bytes]:
        """A living process, and the function as it takes it."""
        with self._lock:
            if self._last is None or self._last[0] is not function:
                self._last = function, cloudpickle.dumps(function)
            if self._process is None or not self._process.alive:
                if self._process is not None:
                    self._process.end()
                self._process = ChildProcess(self.limits, self.threads)
            return self._process, self._last[1]
