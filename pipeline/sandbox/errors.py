"""What becomes of a process of one's own, in words that stand in quarantine rows."""

from __future__ import annotations

import signal

_ONLY_MEMORY = " (as the system ends a process for which it has no memory)"


class Died(Exception):  # noqa: N818 - these say what happened
    """The process that ran a call is gone, and what it had not given is lost.

    culprit: whether the call is known to be the cause: it was the only one at work, or the one whose time was up. A
    call that keeps all other threads from running, its neighbours' among them, may be found out too late for that.
    """

    def __init__(self, message: str, *, culprit: bool = False) -> None:
        super().__init__(message)
        self.culprit = culprit


class Crashed(Died):
    """It died of a signal, or ended by itself."""


class TimedOut(Died):
    """It was ended, as a call gave no result in time."""


class NotStarted(RuntimeError):  # noqa: N818
    """The process never came so far that it could take a call: no fault of any call."""


def describe_exit(code: int, said: str) -> str:
    """How a process ended, from its return code as `subprocess` has it and the last line that it said."""
    if code < 0:
        number = -code
        name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
        words = f"its process died of signal {number} ({name})"
        if number == signal.SIGKILL:
            return words + _ONLY_MEMORY
        spoke = number == signal.SIGABRT  # which says why, where a crash's last words may be of an earlier call
    else:
        words, spoke = f"its process ended with exit code {code}", True
    return f"{words}: {said}" if spoke and said else words
