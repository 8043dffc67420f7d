"""The device of a replica: its lock, copies to it, out-of-memory errors and lost GPUs."""

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from pipeline import faultpoints
from pipeline.runtime.errors import DeviceNotUsable
from pipeline.storage import redact
from pipeline.visible import visible_line


class DoesNotFit(Exception):  # noqa: N818 - recorded in quarantine under this name
    """A unit needs more memory than the device has, with nothing else on it."""


class DeviceLock:
    """A lock with which micro-batches of several calls share the device, or one has it for itself."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shared = 0
        self._exclusive = False

    @contextmanager
    def hold(self, *, exclusive: bool) -> Iterator[None]:
        """Share the device or have it for itself. An exclusive user, also one that waits, goes first. Not reentrant."""
        with self._changed:
            self._changed.wait_for(lambda: not self._exclusive)
            if exclusive:
                self._exclusive = True
                self._changed.wait_for(lambda: not self._shared)
            else:
                self._shared += 1
        try:
            yield
        finally:
            with self._changed:
                if exclusive:
                    self._exclusive = False
                else:
                    self._shared -= 1
                self._changed.notify_all()


def require_device(device: str) -> None:
    """Raise DeviceNotUsable if torch cannot compute on a device, such as a GPU that only Ray knows of."""
    if device == "cpu":
        return
    try:
        torch.zeros(1, device=device).add(1).item()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - torch raises AssertionError and RuntimeError, among others
        cause = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DeviceNotUsable(
            f"device ({device}) cannot be used on {socket.gethostname()}: {cause}; give cpu, or install a torch and a "
            "driver that fit the GPU; a Ray cluster must know of no GPUs that do not work (`ray start --num-gpus 0`)"
        ) from None


def map_tensors(function: Callable[[torch.Tensor], Any], values: Any) -> Any:
    """Return a nested structure with each of its tensors replaced by what the function returns."""
    if isinstance(values, torch.Tensor):
        return function(values)
    if isinstance(values, Mapping):
        return {name: map_tensors(function, value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return type(values)(map_tensors(function, value) for value in values)
    return values


def to_device(inputs: Any, device: torch.device) -> Any:
    """Return a nested structure with its tensors on the device; to a GPU asynchronously, from pinned memory."""
    if device.type != "cuda":
        return inputs
    return map_tensors(lambda tensor: tensor.pin_memory().to(device, non_blocking=True), inputs)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the device was out of memory. cuBLAS, which allocates memory itself, has no error class for it."""
    return isinstance(error, torch.OutOfMemoryError) or "CUBLAS_STATUS_ALLOC_FAILED" in str(error)


def apply_test_memory_limit(units: int) -> None:
    """Raise OutOfMemoryError for more units than the fault point `predict.memory` of a test allows."""
    most = faultpoints.armed("predict.memory")
    if most is not None and units > int(most):
        raise torch.OutOfMemoryError(f"no room for {units} units at once, a test has left room for {most}")


def exit_if_gpu_is_lost(device: torch.device, error: BaseException) -> None:
    """End the process if the GPU is lost, as units would be blamed for its errors. Ray starts another replica."""
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
    except Exception:  # noqa: BLE001 - a lost context fails every later call; Ray retries the shard elsewhere
        print(
            visible_line(redact(f"the GPU is lost after {type(error).__name__}: {error}")), file=sys.stderr, flush=True
        )
        os._exit(1)
