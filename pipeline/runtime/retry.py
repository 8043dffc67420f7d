"""Patience with stores: what may succeed when asked again is asked again, some time apart."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.storage import StorageError

T = TypeVar("T")
TRIES = 4


def patiently(call: Callable[[], T]) -> T:
    """What `call` returns, made again after errors that pass; its client has retried for seconds by then."""
    for attempt in range(1, TRIES):
        try:
            return call()
        except StorageError as error:
            if not error.transient:
                raise
            pause(attempt)
    return call()


def pause(attempt: int) -> None:
    """Wait before the next attempt, longer each time; with jitter, for a store refuses many callers at once."""
    time.sleep(random.uniform(0.5, 1.0) * 2**attempt / 2)  # noqa: S311 - not a secret
