"""Time limits of requests: until the response begins, plus the time for its bytes at the slowest accepted rate.

Clients may retry internally for minutes, and an S3 PUT waits for "100 Continue" without a limit of its own.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

MAX_LATENCY_SECONDS = 40.0
MIN_BYTES_PER_SECOND = 1 << 17
MAX_LISTING_SECONDS = 1800.0  # of a folder whose client requests all pages in one call, of which there may be thousands


def timeout_seconds(size: int) -> float:
    """Return the time limit of a request that transfers `size` bytes."""
    return MAX_LATENCY_SECONDS + size / MIN_BYTES_PER_SECOND


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return the result of a call that has no time limit of its own. Raise TimeoutError after this many seconds.

    The call then continues in its thread, which does not keep the process alive.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised in the thread of the caller
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return result.result(seconds)
