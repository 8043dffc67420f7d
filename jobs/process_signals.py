"""SIGTERM and Ctrl-C in the process of a command: what it needs besides the exception that ends a verb.

That is an end while modules are still imported, an end in time if native code does not return to Python, and the exit
code of a verb that has ended already. The exception is that of `pipeline.runtime.signals`.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

GRACE_SECONDS = 15.0  # after a signal, before the process exits without waiting for Ray's processes
_AGAIN = "the same command can be given again"
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def is_own_process() -> bool:
    """Return whether this process is that of a command: of `perceiver` or `python -m jobs.<verb>`.

    To be called while the package is imported; another program may import it, too.
    """
    return sys.argv[0] == "-m" or os.path.basename(sys.argv[0]) == "perceiver"  # noqa: PTH119 - pathlib loads slowly


def stop_at_once() -> None:
    """From now on a signal ends this process at once with a sentence, until a verb begins."""
    _handle(_stop_now)
    atexit.register(_exit_last)  # the first to be registered, so that it is the last to run


@contextmanager
def ended_in_time() -> Iterator[None]:
    """End this process GRACE_SECONDS after the first signal in the block, or when the block ends with its exit code.

    After a signal the process exits right after the block, since Python's own end calls native code of Ray, which may
    crash after an interrupted start. Without one, a signal after the block ends the process at once with the exit code,
    as the work is done. Does nothing if the process is of another program.
    """
    if signal.getsignal(signal.SIGTERM) is not _stop_now:
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)  # written also while no Python handler can run
    sys.unraisablehook = _hide_stops
    ending = _Ending()
    threading.Thread(target=ending.watch, args=(reading,), daemon=True).start()
    try:
        yield
    except SystemExit as error:
        ending.code = error.code if isinstance(error.code, int) else int(error.code is not None)
        _handle(ending.exit)
        _ended.append(ending)
        from pipeline.runtime.signals import latest_stop  # here: this module is imported before all others

        if latest_stop() is not None:
            ending.exit()
        raise


class _Ending:
    """The end of a process that a signal stops. `code`: the exit code of its verb, once this has ended."""

    def __init__(self) -> None:
        self.code: int | None = None

    def watch(self, signals: int) -> None:
        """Read the numbers of signals from a pipe, and exit GRACE_SECONDS after the first."""
        number = 0
        while number not in _SIGNALS:
            number = os.read(signals, 1)[0]
        from pipeline.runtime.signals import cancel_abort, stop_cause

        cancel_abort()  # here too: the main thread may be in native code
        time.sleep(GRACE_SECONDS)
        if self.code is None:
            _print(f"{stop_cause(number)}; {_AGAIN}; processes of Ray that are left end by themselves")
        os._exit(1 if self.code is None else self.code)

    def exit(self, number: int = 0, frame: FrameType | None = None) -> NoReturn:  # noqa: ARG002 - as signal calls it
        """Exit with the code of the verb, without Python's own end. Also the handler of a signal."""
        with suppress(Exception):  # the reader of standard output is gone, or the signal came while it was written
            sys.stdout.flush()
        os._exit(self.code or 0)


_ended: list[_Ending] = []  # of the verb, once it has an exit code


def _exit_last() -> None:
    """Exit with the code of the verb instead of letting Python delete its modules, after all else is done.

    A thread of a library in native code, such as one that reads ahead, aborts the process if it calls Python by then.
    Without a verb Python ends as usual. It removes its handlers first, and a signal would then take the place of the
    exit code, so signals are ignored.
    """
    _handle(signal.SIG_IGN)
    for ending in _ended:
        ending.exit()


def _hide_stops(error: Any) -> None:
    """Do not print that a signal came where Python ignores exceptions, as in `__del__`: the process ends in time."""
    if not issubclass(error.exc_type, (KeyboardInterrupt, SystemExit)):
        sys.__unraisablehook__(error)


def _stop_now(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - as signal calls it
    _print(f"stopped by {signal.Signals(number).name}; {_AGAIN}")
    os._exit(1)


def _print(message: str) -> None:
    """Print an error without the buffers of a stream, which the signal may have interrupted."""
    with suppress(OSError):  # standard error is closed
        os.write(2, f"error: {message}\n".encode())


def _handle(handler: Callable[[int, FrameType | None], Any] | signal.Handlers) -> None:
    for number in _SIGNALS:
        signal.signal(number, handler)
