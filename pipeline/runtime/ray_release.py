"""Releases of Ray: the oldest that works, and the same one on both sides. Imports no ray, which takes a second."""

import importlib.metadata
import re

from pipeline.runtime.errors import UsageError

OLDEST = (2, 58)
_VERSIONS = re.compile(r"Ray: (?P<ray>\S+)\s+Python: (?P<python>\S+)")  # of the cluster and of this process


def require_supported_ray() -> None:
    """Raise UsageError if the installed release of Ray is older than those that this software works with."""
    installed = importlib.metadata.version("ray")
    if tuple(int(number) for number in installed.split(".")[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise UsageError(
            f"Ray {installed} is installed, but this software needs Ray {oldest} or later: install the same release "
            f"here and on the cluster, as in pip install 'ray[data,default]>={oldest}'"
        )


def different_versions(error: Exception, source: str) -> UsageError | None:
    """Return the error of a cluster with other versions than this process, None if Ray's error is about something else.

    source: where the address of the cluster is configured.
    """
    if not str(error).startswith("Version mismatch"):
        return None
    theirs, own = (f"Ray {found['ray']} with Python {found['python']}" for found in _VERSIONS.finditer(str(error)))
    return UsageError(
        f"the cluster at {source} runs {theirs}, but this process runs {own}: install the versions of the cluster here"
    )
