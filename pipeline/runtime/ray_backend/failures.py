"""Translation of Ray's errors to the runtime's own: stalls, with the activity of each stage, and crashes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.data.exceptions import ExecutionTimeoutError

from pipeline.runtime.errors import Stalled, TooManyCrashes, reason, reported_by_worker

_OPERATOR = re.compile(r"- (?P<name>.+): (?P<running>\d+) active task\(s\), (?P<finished>\d+) finished")
_SECONDS = re.compile(r"at least (\d+)s")
_STAGES = {"load": "load", "write": "write"}
_STAGES |= dict.fromkeys(("ReplicaActor", "IsolatedReplicaActor", "skip_predict"), "predict")


@contextmanager
def translate_ray_errors() -> Iterator[None]:
    """Raise `Stalled`, `TooManyCrashes`, CheckpointChanged or DeviceNotUsable in place of Ray's errors of those kinds.

    Other errors pass unchanged.
    """
    try:
        yield
    except ExecutionTimeoutError as error:
        raise Stalled(stall_message(str(error))) from error
    except Exception as error:
        if is_crash(error):
            raise TooManyCrashes(reason(error)) from error
        if reported := reported_by_worker(reason(error)):
            raise reported from None
        raise


def is_crash(error: Exception) -> bool:
    """Return whether a process or node died. An error in a stage's code or at a replica's start is not a crash."""
    if not isinstance(error, ray.exceptions.RayError) or isinstance(error, ray.exceptions.RayTaskError):
        return False
    return "creation task" not in str(error)


def stall_message(ray_message: str) -> str:
    """Describe a stall from the message of Ray Data's timeout error: seconds, activity per stage, free resources."""
    found = _SECONDS.search(ray_message)
    seconds = f" for {int(found[1]):,} s" if found else ""
    stages = "; ".join(_stage_activity(ray_message)) or "no stage was running"
    return f"no stage produced output{seconds} (stall_timeout): {stages}; {_free_resources()}"


def _stage_activity(ray_message: str) -> Iterator[str]:
    for operator in _OPERATOR.finditer(ray_message):
        function = operator["name"].removeprefix("MapBatches(").rstrip(")")
        if function in _STAGES:
            yield f"{_STAGES[function]} had {operator['running']} running and {operator['finished']} finished tasks"


def _free_resources() -> str:
    try:
        total, free = ray.cluster_resources(), ray.available_resources()
    except ray.exceptions.RayError as error:
        return f"the resources of the cluster are unknown: {error}"
    names = [name for name in ("CPU", "GPU") if name in total]
    resources = " and ".join(f"{free.get(name, 0):g} of {total[name]:g} {name}s" for name in names) or "no CPU"
    return f"{resources} of the cluster are free"
