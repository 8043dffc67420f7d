"""How much time and memory a call may take, and the forms in which a lack of memory comes."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

_WORDS = re.compile(
    r"out of memory|cannot allocate memory|insufficient memory|can't start new thread|failed to map segment",
    re.IGNORECASE,
)
_CAUSES = 8  # along which errors are looked at
_NEAR = 0.75  # of the limit


@dataclass(frozen=True)
class ResourceLimits:
    """Of one item of work.

    seconds: from one result of a call to its next, without what is spent waiting for storage. memory_bytes: of address
    space that all calls together may take beyond what the process has once it started and imported their function;
    None is as much as there is. Platforms other than Linux know no such limit.
    """

    seconds: float
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ValueError(f"seconds ({self.seconds}) must be greater than 0")
        if self.memory_bytes is not None and self.memory_bytes <= 0:
            raise ValueError(f"memory_bytes ({self.memory_bytes}) must be greater than 0, or None for no limit")


def limit_memory(extra: int) -> None:
    """Let this process take so many bytes of address space beyond what it has; nothing where that cannot be told."""
    import resource

    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return
    most = pages * os.sysconf("SC_PAGE_SIZE") + extra
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def near_memory_limit() -> bool:
    """Whether this process has come so near to the limit of its memory that any of its calls may have lacked some."""
    import resource

    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    peak = int(status.partition("VmPeak:")[2].split()[0]) << 10
    return most != resource.RLIM_INFINITY and peak > _NEAR * most


def is_memory_shortage(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is a lack of memory: MemoryError, ENOMEM, or a library's words for it.

    Calls that run side by side share the memory: such a call may have failed for its neighbour's need, and succeed
    alone in a process of its own.
    """
    for _ in range(_CAUSES):
        if error is None:
            return False
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM or _WORDS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
