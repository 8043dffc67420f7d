"""Named points that a shard, a plan and a run pass, at which a test makes the process die, wait or fall short.

Nothing happens, and nothing is looked up, unless PERCEIVER_POINTS names a folder when the process starts. A file in it
that is called as a point says what happens there:

- `kill`: the first process that comes by ends as by SIGKILL.
- `stop`: the first process that comes by waits until its file is gone.
- anything else is for the code at the point, which asks `armed` for it, each time that it comes by.

The file of a kill or a stop is renamed to `<point>.<pid>` by the process that takes it: one of many, once.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

VARIABLE = "PERCEIVER_POINTS"
_PAUSE = 0.02  # seconds between two looks at whether the file is gone


def reached(point: str) -> None:
    """Say that the process is at a point; it goes on at once unless a test wants otherwise."""
    if VARIABLE not in os.environ:
        return
    action = armed(point)
    if action not in ("kill", "stop"):
        return
    file = Path(os.environ[VARIABLE], point)
    taken = file.with_name(f"{point}.{os.getpid()}")
    try:
        file.rename(taken)
    except FileNotFoundError:  # another process was first
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    while taken.exists():
        time.sleep(_PAUSE)


def armed(point: str) -> str | None:
    """What a test wants of the code at a point, None where it wants nothing."""
    folder = os.environ.get(VARIABLE)
    if folder is None:
        return None
    try:
        return Path(folder, point).read_text().strip()
    except FileNotFoundError:
        return None
