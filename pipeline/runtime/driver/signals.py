"""Leaving when asked to: SIGTERM and Ctrl-C end a run at once, in words, and its state is written before it goes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_SECONDS = 15.0  # seconds that may pass before the process ends without waiting for Ray to end its own
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(KeyboardInterrupt):
    """Someone asked the run to stop. No Exception: nothing on the way out takes it for a unit's or a shard's fault."""


@contextmanager
def stop_on_signals(*, leave: bool = False) -> Iterator[None]:
    """For the time of the block SIGTERM and SIGINT raise Stopped in it; a second one ends the process at once.

    leave: the process is the run's own: where it is still there GRACE seconds after the signal, it ends itself. In
    another thread than the main one nothing changes: Python delivers no signals there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal calls it
        for other in SIGNALS:
            signal.signal(other, signal.SIG_DFL)
        if leave:
            last = threading.Timer(GRACE_SECONDS, _exit_now)
            last.daemon = True
            last.start()
        raise Stopped(f"stopped by {signal.Signals(number).name}; the same command resumes the run")

    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def preserve_signal_handlers() -> Iterator[None]:
    """Signal handlers are afterwards what they were before: `ray.init` puts its own in place of them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_now() -> None:
    print("left without waiting for Ray's processes, which end by themselves", file=sys.stderr, flush=True)
    os._exit(1)
