"""Patience with stores: what may succeed when it is asked again is asked again, some time apart, until a deadline.

Every request of every folder is made through `with_retry`. The clients below ask once where they can be told to, and
are cut short where they cannot, so that pauses do not multiply.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.storage.errors import is_transient
from pipeline.storage.redaction import redact

T = TypeVar("T")
RETRY_SECONDS = 120.0  # seconds of trying, after which the error comes out
MIN_ATTEMPTS = 3  # attempts in any case: a large object may take longer than that by itself
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.2, 15.0  # seconds of the first pause, and of the longest
WARN_AFTER_SECONDS = 10.0  # seconds after which somebody who watches is told why nothing happens
_log = logging.getLogger(__name__)


def with_retry(call: Callable[[], T]) -> T:
    """What `call` returns, made again after errors that pass; the last of them, with a note of it, once time is up.

    What `call` does it must be able to do twice: its answer may have been lost.
    """
    began, attempts, warned = time.monotonic(), 0, False
    while True:
        try:
            return call()
        except Exception as error:
            if not is_transient(error):
                raise
            attempts, waited = attempts + 1, time.monotonic() - began
            if attempts >= MIN_ATTEMPTS and waited >= RETRY_SECONDS:
                error.add_note(f"asked {attempts} times in {waited:.0f} s")
                raise
            if waited >= WARN_AFTER_SECONDS and not warned:
                warned = True
                _log.warning("a store failed %d times, it is asked again: %s", attempts, redact(repr(error)))
        time.sleep(pause_seconds(attempts))


def pause_seconds(attempts: int) -> float:
    """Seconds before the next try, longer after each; with jitter, for a store refuses many callers at once."""
    return random.uniform(0.5, 1.0) * min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (attempts - 1))  # noqa: S311 - not a secret
