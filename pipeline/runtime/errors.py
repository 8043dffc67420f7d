"""Errors that end a run, by exit code. Any other error concerns one unit, which is quarantined."""

import re

from pipeline.checkpoints import CheckpointChanged
from pipeline.storage import redact

_REPORTED = re.compile(r"\b(CheckpointChanged|DeviceNotUsable): (.+)")
_COLORS = re.compile(r"\x1b\[[0-9;]*m")
_NEXT_TRACEBACK = "\nThe above exception was the direct cause"
_RAY_ADVICE = "To change retry attempts"  # last line of some Ray errors, about settings that a user does not have


class UsageError(Exception):
    """Wrong usage or configuration, found before any work. The message names the wrong value and valid ones. Exit 2.

    It holds no secrets. `lines` are those of the message: more than one if several values are wrong.
    """

    def __init__(self, message: str, *more: str) -> None:
        self.lines = redact(message), *(f"  {redact(line)}" for line in more)
        super().__init__("\n".join(self.lines))


class DeviceNotUsable(UsageError):  # noqa: N818
    """A device that the cluster was told of cannot be used. The message names it, its machine and the cause."""


class _Redacted(Exception):  # noqa: N818 - a base class
    """An error whose message holds no secrets, wherever its words come from."""

    def __init__(self, message: str = "") -> None:
        super().__init__(redact(message))


class RunFailed(_Redacted):
    """The run ended with shards left, or with units unaccounted for. The same command resumes it. Exit 1."""


class TooMuchQuarantined(_Redacted):
    """More units are quarantined than `max_quarantine` allows. A higher value continues the run. Exit 3."""


class Stalled(_Redacted):
    """No stage produced output for `stall_timeout` seconds. The message describes the state of each stage."""


class TooManyCrashes(_Redacted):
    """More worker processes died in one pass than it tolerates; which shards caused it is unknown."""


def reason(error: BaseException | None) -> str:
    """Return the cause of an error in one line without secrets.

    Messages of Ray contain tracebacks; the first one ends with the cause.
    """
    first = _COLORS.sub("", redact(str(error))).partition(_NEXT_TRACEBACK)[0]
    lines = [line for line in first.splitlines() if line.strip() and not line.startswith(_RAY_ADVICE)]
    return lines[-1] if lines else type(error).__name__


def reported_by_worker(text: str) -> CheckpointChanged | DeviceNotUsable | None:
    """Return the error that a worker reports, as the last line of a traceback or the `fatal` of a shard.

    None for any other than these two, which concern no shard.
    """
    found = _REPORTED.search(text)
    if not found:
        return None
    return CheckpointChanged(found[2]) if found[1] == "CheckpointChanged" else DeviceNotUsable(found[2])
