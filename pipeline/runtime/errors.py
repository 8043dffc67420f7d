"""What ends a run, by exit code. Everything else that goes wrong belongs to one unit, which is quarantined."""

import re

from pipeline.storage import redact

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NEXT = "\nThe above exception was the direct cause"
_ADVICE = "To change retry attempts"  # Ray's last line on some errors, about settings that users of a run do not have


class UsageError(Exception):
    """Wrong usage or configuration, found before any work; names the wrong value and the right one. Exit 2."""


class RunFailed(Exception):  # noqa: N818 - it says what happened; the parts that were committed are good
    """The run ended with shards left, or with units unaccounted for. The same command resumes it. Exit 1."""


class TooMuchQuarantined(Exception):  # noqa: N818
    """More units were quarantined than `max_quarantine` allows. A higher value goes on where it stopped. Exit 3."""


class Stalled(Exception):  # noqa: N818
    """No stage produced output for `stall_timeout` seconds; the message says what each stage was doing."""


class TooManyCrashes(Exception):  # noqa: N818
    """More worker processes died in one pass than it tolerates, so nobody knows which shards caused it."""


def reason(error: BaseException | None) -> str:
    """An error in one line without secrets. Ray's errors hold whole traces, whose first one ends with the cause."""
    lines = _COLOURS.sub("", redact(str(error))).partition(_NEXT)[0].splitlines()
    told = [line for line in lines if line.strip() and not line.startswith(_ADVICE)]
    return told[-1] if told else type(error).__name__
