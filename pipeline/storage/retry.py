"""Retry of storage requests after transient errors, with jittered exponential backoff and a deadline.

Every request of every folder goes through `with_retry`. The clients below it are configured to try once, or are
interrupted if they cannot be, so that their pauses do not multiply with these.
"""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.formatting import counted
from pipeline.storage.errors import Corrupt, is_transient
from pipeline.storage.redaction import redact

T = TypeVar("T")
RETRY_SECONDS = 120.0  # since the first attempt; then the error is raised
MIN_ATTEMPTS = 3  # even past the deadline, since one attempt for a large object may take longer than that
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.2, 15.0
WARN_AFTER_SECONDS = 10.0  # log why nothing happens
_log = logging.getLogger(__name__)


def with_retry(call: Callable[[], T]) -> T:
    """Return the result of `call`, repeated after transient errors; raise the last of them at the deadline.

    An answer that is corrupt is requested MIN_ATTEMPTS times.

    `call` must be safe to repeat: a failed attempt may have taken effect, with its response lost.
    """
    began, attempts, warned = time.monotonic(), 0, False
    while True:
        try:
            return call()
        except Exception as error:
            if not is_transient(error):
                raise
            attempts, elapsed = attempts + 1, time.monotonic() - began
            if attempts >= MIN_ATTEMPTS and (elapsed >= RETRY_SECONDS or isinstance(error, Corrupt)):
                error.add_note(f"{counted(attempts, 'attempt')} in {elapsed:.0f} s")
                raise
            if elapsed >= WARN_AFTER_SECONDS and not warned:
                warned = True
                _log.warning("storage failed %d times, retrying: %s", attempts, redact(repr(error)))
        time.sleep(pause_seconds(attempts))


def pause_seconds(attempts: int) -> float:
    """Return the pause before the next attempt: doubled each time, and random so that workers do not retry together."""
    longest = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (attempts - 1))
    return random.uniform(0.5, 1.0) * longest  # noqa: S311 - not a secret
