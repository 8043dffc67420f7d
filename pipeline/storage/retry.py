"""Patience with stores: what may succeed when it is asked again is asked again, some time apart, until a deadline.

Every request of every folder is made through `patiently`. The clients below ask once where they can be told to, and
are cut short where they cannot, so that pauses do not multiply.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.storage.errors import passing
from pipeline.storage.uris import redact

T = TypeVar("T")
TRYING = 120.0  # seconds of trying, after which the error comes out
LEAST = 3  # tries in any case: a large object may take longer than that by itself
PAUSE, LONGEST = 0.2, 15.0  # seconds of the first pause, and of the longest
SAID = 10.0  # seconds after which somebody who watches is told why nothing happens
_log = logging.getLogger(__name__)


def patiently(call: Callable[[], T]) -> T:
    """What `call` returns, made again after errors that pass; the last of them, with a note of it, once time is up.

    What `call` does it must be able to do twice: its answer may have been lost.
    """
    began, tries, said = time.monotonic(), 0, False
    while True:
        try:
            return call()
        except Exception as error:
            if not passing(error):
                raise
            tries, waited = tries + 1, time.monotonic() - began
            if tries >= LEAST and waited >= TRYING:
                error.add_note(f"asked {tries} times in {waited:.0f} s")
                raise
            if waited >= SAID and not said:
                said = True
                _log.warning("a store failed %d times, it is asked again: %s", tries, redact(repr(error)))
        time.sleep(pause(tries))


def pause(tries: int) -> float:
    """Seconds before the next try, longer after each; with jitter, for a store refuses many callers at once."""
    return random.uniform(0.5, 1.0) * min(LONGEST, PAUSE * 2 ** (tries - 1))  # noqa: S311 - not a secret
