"""The handlers of SIGTERM and SIGINT, which Ray replaces while it starts."""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def preserve_signal_handlers() -> Iterator[Mapping[int, Any]]:
    """Restore the handlers of SIGTERM and SIGINT after the block, as `ray.init` replaces them.

    Yields these handlers, by signal: none outside the main thread, where they cannot be set.
    """
    numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    try:
        yield before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
