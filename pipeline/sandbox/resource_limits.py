"""Time and memory limits of calls, and recognition of errors that are a lack of memory."""

import errno
import os
import re
import resource
from dataclasses import dataclass
from pathlib import Path

_WORDS = re.compile(
    r"(?i)out of memory|cannot allocate memory|insufficient memory|can't start new thread|failed to map segment"
)
_MAX_CAUSES = 8  # errors of a chain of causes that are examined
_NEAR_LIMIT = 0.75  # of the memory limit


@dataclass(frozen=True)
class ResourceLimits:
    """Limits of a sandbox.

    seconds: Time from one result of a call to the next, without waits for storage. memory_bytes: Address space that all
    calls together may take in addition to that of the process after its imports; None for no limit. Platforms other
    than Linux have no such limit.
    """

    seconds: float
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ValueError(f"seconds ({self.seconds}) must be greater than 0")
        if self.memory_bytes is not None and self.memory_bytes <= 0:
            raise ValueError(f"memory_bytes ({self.memory_bytes}) must be greater than 0, or None for no limit")


def limit_memory(extra: int) -> None:
    """Limit this process to `extra` bytes of address space more than it has; do nothing if the size is unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return
    most = pages * os.sysconf("SC_PAGE_SIZE") + extra
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def near_memory_limit() -> bool:
    """Return whether this process came so near to its memory limit that any of its calls may have lacked memory."""
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    peak = int(status.partition("VmPeak:")[2].split()[0]) << 10
    return most != resource.RLIM_INFINITY and peak > _NEAR_LIMIT * most


def is_memory_shortage(error: BaseException | None) -> bool:
    """Return whether an error or one of its causes is a lack of memory: MemoryError, ENOMEM or a library's message.

    Parallel calls share the memory: such a call may succeed alone in a process of its own.
    """
    for _ in range(_MAX_CAUSES):
        if error is None:
            return False
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM or _WORDS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
