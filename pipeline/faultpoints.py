"""Fault points: named places in the code where a test kills a process, stops it, or changes what it does.

They do nothing unless the environment variable PERCEIVER_POINTS names a folder. A file in it with the name of a point
says what happens there:

- `kill`: The first process to reach the point ends with SIGKILL.
- `stop`: The first process to reach the point waits until its file is deleted.
- Any other content is read by the code at the point with `armed`, each time.

A process that takes a kill or a stop renames the file to `<point>.<pid>`, so that only one does.
"""

import os
import signal
import time
from pathlib import Path

VARIABLE = "PERCEIVER_POINTS"
_POLL_SECONDS = 0.02


def reached(point: str) -> None:
    """Pass a point: return at once unless a test kills or stops the process here."""
    action = armed(point)
    if action not in ("kill", "stop"):
        return
    file = Path(os.environ[VARIABLE], point)
    taken = file.with_name(f"{point}.{os.getpid()}")
    try:
        file.rename(taken)
    except FileNotFoundError:  # another process took it
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    while taken.exists():
        time.sleep(_POLL_SECONDS)


def armed(point: str) -> str | None:
    """Return what a test wrote for a point, None if nothing."""
    if VARIABLE not in os.environ:
        return None
    try:
        return Path(os.environ[VARIABLE], point).read_text().strip()
    except FileNotFoundError:
        return None
