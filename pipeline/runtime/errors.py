"""What ends a run, by exit code. Everything else that goes wrong belongs to one unit, which is quarantined."""


class UsageError(Exception):
    """Wrong usage or configuration, found before any work; names the wrong value and the right one. Exit 2."""


class RunFailed(Exception):  # noqa: N818 - it says what happened; the parts that were committed are good
    """The run ended with shards left, or with units unaccounted for. The same command resumes it. Exit 1."""


class TooMuchQuarantined(Exception):  # noqa: N818
    """More units were quarantined than `max_quarantine` allows. A higher value goes on where it stopped. Exit 3."""
