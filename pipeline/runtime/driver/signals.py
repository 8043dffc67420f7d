"""SIGTERM and Ctrl-C: stop the run at once, with a message, after its state is written."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.runtime.ray_backend.signal_handlers import preserve_signal_handlers

GRACE_SECONDS = 15.0  # before the process exits without waiting for Ray's processes


class Stopped(KeyboardInterrupt):
    """The run was stopped by a signal. Not an Exception, so that no handler takes it for the failure of a unit."""


@contextmanager
def stop_on_signals(*, leave: bool = False) -> Iterator[None]:
    """Raise Stopped in the block on SIGTERM or SIGINT; a second signal does what it does outside of the block.

    leave: The process ends after the block: a second signal kills it, and so do GRACE_SECONDS after the first. A
    notebook goes on instead. Does nothing outside the main thread, where Python does not deliver signals.
    """

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature that signal calls
        for other, handler in before.items():
            signal.signal(other, signal.SIG_DFL if leave else handler)
        if leave:
            timer = threading.Timer(GRACE_SECONDS, _exit_now)
            timer.daemon = True
            timer.start()
        raise Stopped(f"stopped by {signal.Signals(number).name}; the same command resumes the run")

    with preserve_signal_handlers() as before:
        for each in before:
            signal.signal(each, stop)
        yield


def _exit_now() -> None:
    print("exiting without waiting for Ray's processes, which end by themselves", file=sys.stderr, flush=True)
    os._exit(1)
