"""SIGTERM and Ctrl-C: a program stops at once, with a message; a run after its state is written."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

_causes: list[str] = []  # of the SIGTERM that this process sent to itself


class Stopped(KeyboardInterrupt):
    """The program was stopped by a signal. Not an Exception, so that no handler takes it for the failure of a unit."""


_stops: list[Stopped] = []  # that the handlers raised, in the outermost block


@contextmanager
def stop_on_signals(advice: str = "the same command resumes the run", *, process_ends: bool = False) -> Iterator[None]:
    """Raise Stopped in the block on SIGTERM or SIGINT; a second signal does what it does outside of the block.

    advice: Ends the message. process_ends: The process ends after the block, where a notebook goes on: a second signal
    kills it, also in the blocks inside this one. Does nothing outside the main thread, where Python does not deliver
    signals.
    """
    with preserve_signal_handlers() as before:
        around = [handler for handler in before.values() if isinstance(handler, _StopHandler)]
        if not around:
            _causes.clear()
            _stops.clear()
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
        for other, handler in self.before.items():
            signal.signal(other, handler)
        cancel_abort()
        _stops.append(Stopped(f"{stop_cause(number)}; {self.advice}"))
        raise _stops[-1]


def cancel_abort() -> None:
    """Prevent that a process which got SIGTERM aborts three seconds later.

    Ray's native handler of SIGTERM sets an alarm that aborts the process, and then calls the handler of Python. An
    alarm that has a handler in Python is somebody else's.
    """
    if signal.getsignal(signal.SIGALRM) == signal.SIG_DFL:
        signal.alarm(0)


def stop_main_thread(cause: str) -> None:
    """Raise Stopped in a block of `stop_on_signals` in the main thread, from another one.

    Does nothing if the main thread is in no such block: SIGTERM would end the process.
    """
    if isinstance(signal.getsignal(signal.SIGTERM), _StopHandler):
        _causes.append(cause)
        os.kill(os.getpid(), signal.SIGTERM)  # which wakes code of Ray that waits, too


def stop_cause(number: int) -> str:
    """Return why the process got a signal, for messages."""
    return _causes[-1] if _causes else f"stopped by {signal.Signals(number).name}"


def latest_stop() -> Stopped | None:
    """Return what the latest signal raised. Native code of Ray replaces it by a KeyboardInterrupt without words."""
    return _stops[-1] if _stops else None


def stop_behind(error: BaseException | None) -> Stopped | None:
    """Return the Stopped that an error replaced: Python and libraries raise errors of their own while they handle it.

    An import that a signal interrupts ends in RuntimeError or ImportError, for example.
    """
    while error is not None and not isinstance(error, Stopped):
        error = error.__cause__ or error.__context__
    return error


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
