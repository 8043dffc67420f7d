"""Ray's errors translated to the runtime's own: stalls, with what each stage was doing, and crashes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.data.exceptions import ExecutionTimeoutError

from pipeline.runtime.errors import Stalled, TooManyCrashes, reason

_OPERATOR = re.compile(r"- (?P<name>.+): (?P<running>\d+) active task\(s\), (?P<finished>\d+) finished")
_SECONDS = re.compile(r"at least (\d+)s")
_STAGES = {"load": "load", "write": "write"}
_STAGES |= dict.fromkeys(("ReplicaActor", "IsolatedReplicaActor", "skip_predict"), "predict")


@contextmanager
def translate_ray_errors() -> Iterator[None]:
    """Raise `Stalled` or `TooManyCrashes` in place of Ray's errors of those kinds; other errors pass unchanged."""
    try:
        yield
    except ExecutionTimeoutError as error:
        raise Stalled(stall_message(error)) from error
    except Exception as error:
        if is_crash(error):
            raise TooManyCrashes(reason(error)) from error
        raise


def stall_message(error: ExecutionTimeoutError) -> str:
    """What to tell of a pass that Ray Data ended because none of its stages gave anything for too long."""
    found = _SECONDS.search(str(error))
    seconds = f" for {int(found[1]):,} s" if found else ""
    stages = "; ".join(_stage_activity(str(error))) or "no stage was running"
    return f"no shard came out of any stage{seconds} (stall_timeout): {stages}; {_free_resources()}"


def is_crash(error: Exception) -> bool:
    """Whether an error is of a process or node that died, and not of the code in it: of a replica's start, either."""
    if not isinstance(error, ray.exceptions.RayError) or isinstance(error, ray.exceptions.RayTaskError):
        return False
    return "creation task" not in str(error)


def _stage_activity(message: str) -> Iterator[str]:
    for operator in _OPERATOR.finditer(message):
        function = operator["name"].removeprefix("MapBatches(").rstrip(")")
        if function in _STAGES:
            yield f"{_STAGES[function]} had {operator['running']} running and {operator['finished']} finished"


def _free_resources() -> str:
    """What the cluster has, and what of it nobody uses."""
    try:
        there, free = ray.cluster_resources(), ray.available_resources()
    except ray.exceptions.RayError as error:
        return f"the cluster does not say what it has: {error}"
    units = [name for name in ("CPU", "GPU") if name in there]
    words = " and ".join(f"{free.get(name, 0):g} of {there[name]:g} {name}s" for name in units) or "no CPU"
    return f"{words} of the cluster are free"
