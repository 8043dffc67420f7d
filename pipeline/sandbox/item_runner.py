"""Run a sequence of items in a sandbox, and find the item that crashes the process or exhausts its memory."""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.sandbox.errors import Died, NotStarted
from pipeline.sandbox.resource_limits import is_memory_shortage
from pipeline.sandbox.sandbox import MakesResults, Sandbox


@dataclass(frozen=True)
class Started:
    """A message from the child: it is about to work on `item`. A crash from now on is this item's."""

    item: Any = None


@dataclass(frozen=True)
class Failed:
    """An item whose process died, or ran out of memory, in each of `attempts` attempts; `error` is the last one's."""

    item: Any
    error: Exception
    attempts: int


def run_items(
    call: Callable[[int], Iterable[Any]], *, attempts: int, failed_attempts: int = 0
) -> Generator[Any, None, None]:
    """Yield the result of each item, or `Failed` if the item ends its process in `attempts` attempts.

    Args:
        call: Starts a call in a sandbox that omits the first n items. For each of the others it yields `Started`, any
            number of times, and then one result. The sandbox must run nothing else meanwhile.
        attempts: Number of attempts per item.
        failed_attempts: Number of attempts at the first item that failed before.

    Raises:
        Died, MemoryError: Each attempt failed before the call named an item with `Started`.
        Exception: Any other error of the call, at once.
    """
    finished, failed = 0, failed_attempts
    while True:
        started: Started | None = None
        try:
            for step in call(finished):
                if isinstance(step, Started):
                    started = step
                    continue
                yield step
                finished, failed, started = finished + 1, 0, None
        except (Died, MemoryError) as crash:
            error = crash
        else:
            return
        failed += 1
        if failed < attempts:
            continue
        if started is None:
            raise error
        yield Failed(started.item, error, failed)
        finished, failed = finished + 1, 0


class SharedSandbox:
    """Runs calls in parallel in one process, and calls that crash it again in another process, one at a time.

    Only one of the calls in flight caused the crash; the others succeed when retried alone. A lack of memory counts as
    a crash, because calls in parallel share the memory. Close it to end the second process.
    """

    def __init__(self, shared: Sandbox) -> None:
        self.limits = shared.limits
        self._shared, self._alone = shared, Sandbox(shared.limits)
        self._lock = threading.Lock()

    def run(self, function: MakesResults, *arguments: Any, seconds: float) -> list[Any]:
        """Return all results of a call, in parallel with other calls.

        Raises Died or MemoryError if `run_alone` may succeed, and any other error of the call.
        """
        return list(_run(self._shared, function, *arguments, seconds=seconds))

    def run_alone(
        self, function: MakesResults, *arguments: Any, seconds: float, attempts: int = 1, failed_attempts: int = 0
    ) -> Generator[Any, None, None]:
        """Yield what `run_items` does for `function(*arguments, n)`, which omits the first n items."""
        call = partial(_run, self._alone, function, *arguments, seconds=seconds)
        with self._lock:
            yield from run_items(call, attempts=attempts, failed_attempts=failed_attempts)

    def close(self) -> None:
        """End the process of calls that run alone; the shared one is the caller's to close."""
        self._alone.close()


def _run(sandbox: Sandbox, function: MakesResults, *arguments: Any, seconds: float) -> Iterator[Any]:
    """Yield the results of a call. Raises MemoryError for every form of a lack of memory."""
    try:
        yield from sandbox.run(function, *arguments, seconds=seconds)
    except (Died, NotStarted):
        raise
    except Exception as error:
        if not is_memory_shortage(error):
            raise
        sandbox.renew()  # a module that was being imported when memory ran out may be incomplete
        raise MemoryError(str(error)) from error
