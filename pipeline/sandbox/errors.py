"""Errors of a child process, with the messages that quarantine records show."""

import signal


class Died(Exception):  # noqa: N818 - the names of its subclasses are recorded in quarantine
    """The process of a call ended before the call did.

    culprit: Whether this call is known to be the cause, as the only running one or the one that exceeded its time
    limit. A call that blocks all other threads may be found too late for that.
    """

    def __init__(self, message: str, *, culprit: bool = False) -> None:
        super().__init__(message)
        self.culprit = culprit


class Crashed(Died):
    """The process died of a signal, or exited."""


class TimedOut(Died):
    """The process was ended because a call exceeded its time limit."""


class NotStarted(RuntimeError):  # noqa: N818
    """The process could not start to serve calls: no fault of any call."""


class StandIn(Exception):  # noqa: N818 - its subclasses have the names of errors
    """Replaces an error that cannot be pickled, by a subclass with the name of its class."""

    def __reduce__(self) -> tuple[object, ...]:
        return stand_in, (type(self).__name__, str(self))


def stand_in(name: str, message: str) -> StandIn:
    """Return an error whose class has that name."""
    return type(name, (StandIn,), {})(message)


def describe_exit(code: int, last_line: str) -> str:
    """Describe how a process ended, from its return code as `subprocess` has it and its last line on stderr."""
    if code < 0:
        number = -code
        name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
        words = f"the child process died of signal {number} ({name})"
        if number == signal.SIGKILL:
            return f"{words} (possibly because the system ran out of memory)"
        shown = number == signal.SIGABRT  # abort() prints why; at other signals the line may be of an earlier call
    else:
        words, shown = f"the child process ended with exit code {code}", True
    return f"{words}: {last_line}" if shown and last_line else words
