"""When a thread waits for a store: whoever limits its time can be told, for that time is not its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_thread = threading.local()


def set_wait_hook(watcher: Callable[[bool], None] | None) -> None:
    """Have `watcher` called in this thread with True whenever it begins to wait for a store, with False when it no
    longer does. Both may be nested, and every True has its False."""
    _thread.watcher = watcher


@contextmanager
def waiting_for_storage() -> Iterator[None]:
    """For the time of the block this thread waits for a store."""
    watcher: Callable[[bool], None] | None = getattr(_thread, "watcher", None)
    if watcher is None:
        yield
        return
    watcher(True)
    try:
        yield
    finally:
        watcher(False)
