"""SIGTERM and Ctrl-C: a program stops at once, with a message; a run after its state is written."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

GRACE_SECONDS = 15.0  # before the process exits without waiting for Ray's processes


class Stopped(KeyboardInterrupt):
    """The program was stopped by a signal. Not an Exception, so that no handler takes it for the failure of a unit."""


@contextmanager
def stop_on_signals(advice: str = "the same command resumes the run", *, process_ends: bool = False) -> Iterator[None]:
    """Raise Stopped in the block on SIGTERM or SIGINT; a second signal does what it does outside of the block.

    advice: Ends the message. process_ends: The process ends after the block, where a notebook goes on: a second signal
    kills it, and so do GRACE_SECONDS after the first, also in the blocks inside this one. Does nothing outside the main
    thread, where Python does not deliver signals.
    """
    with preserve_signal_handlers() as before:
        around = (handler for handler in before.values() if isinstance(handler, _StopHandler))
        process_ends = process_ends or any(handler.process_ends for handler in around)
        for number in before:
            signal.signal(number, _StopHandler(advice=advice, before=before, process_ends=process_ends))
        yield


@dataclass(frozen=True, kw_only=True)
class _StopHandler:
    """The handler of a signal in a block of `stop_on_signals`."""

    advice: str
    before: dict[int, Any]  # handlers to restore after the block, by signal
    process_ends: bool

    def __call__(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal calls it
        if self.process_ends:
            self.before.update(dict.fromkeys(self.before, signal.SIG_DFL))
            timer = threading.Timer(GRACE_SECONDS, _exit_now)
            timer.daemon = True
            timer.start()
        for other, handler in self.before.items():
            signal.signal(other, handler)
        raise Stopped(f"stopped by {signal.Signals(number).name}; {self.advice}")


def _exit_now() -> None:
    print("exiting without waiting for Ray's processes, which end by themselves", file=sys.stderr, flush=True)
    os._exit(1)


@contextmanager
def preserve_signal_handlers() -> Iterator[dict[int, Any]]:
    """Restore the handlers of SIGTERM and SIGINT after the block, as `ray.init` replaces them.

    Yields the handlers to restore, by signal: none outside the main thread, where they cannot be set.
    """
    numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    try:
        yield before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
