"""A hook that is called while a thread waits for storage, so that a time limit can leave out that time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_thread = threading.local()


def set_wait_hook(hook: Callable[[bool], None] | None) -> None:
    """Call `hook(True)` whenever this thread begins to wait for storage, `hook(False)` at the end of each wait.

    Waits may be nested; every call with True is followed by one with False.
    """
    _thread.hook = hook


@contextmanager
def waiting_for_storage() -> Iterator[None]:
    """Mark the time of the block as a wait of this thread for storage."""
    hook: Callable[[bool], None] | None = getattr(_thread, "hook", None)
    if hook is None:
        yield
        return
    hook(True)
    try:
        yield
    finally:
        hook(False)
