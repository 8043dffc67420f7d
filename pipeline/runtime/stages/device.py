"""The device of a replica: who is on it, what it has no room for, and when it is past use."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from pipeline import faultpoints
from pipeline.storage import redact


class DoesNotFit(Exception):  # noqa: N818 - it says what happened, and its name stands in quarantine
    """A unit needs more of the device's memory than there is, with nothing else on it."""


class DeviceLock:
    """Who is on the device: the micro-batches of several calls together, or one of them alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Be on the device with others; whoever is there alone, or waits to be, goes first."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Be on the device alone. Not from inside of `together`: it would wait for itself."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._alone = True
            self._changed.wait_for(lambda: not self._inside)
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


def to_device(inputs: Any, device: torch.device) -> Any:
    """The tensors of a nested structure on the device; to a GPU from pinned memory, without waiting for the copy."""
    if isinstance(inputs, torch.Tensor):
        return inputs.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else inputs
    if isinstance(inputs, Mapping):
        return {name: to_device(value, device) for name, value in inputs.items()}
    if isinstance(inputs, (list, tuple)):
        return type(inputs)(to_device(value, device) for value in inputs)
    return inputs


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device had no room. cuBLAS, which takes memory of its own, has no class of error for it."""
    return isinstance(error, torch.OutOfMemoryError) or "CUBLAS_STATUS_ALLOC_FAILED" in str(error)


def empty_cache(device: torch.device) -> None:
    """Give back what torch keeps of a GPU's memory for later, in pieces that may be too small for what comes next."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def apply_test_memory_limit(units: int) -> None:
    """A test's device: OutOfMemoryError for more units at once than it wants there to be room for."""
    room = faultpoints.armed("predict.memory")
    if room is not None and units > int(room):
        raise torch.OutOfMemoryError(f"no room for {units} units at once, a test has left room for {room}")


def exit_if_gpu_is_lost(device: torch.device, error: BaseException) -> None:
    """End the process where the GPU is past use: its errors would be laid to units. Ray starts another replica."""
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
    except Exception:  # noqa: BLE001 - a lost context fails every call from here on; the shard is retried elsewhere
        print(redact(f"the GPU is past use after {type(error).__name__}: {error}"), file=sys.stderr, flush=True)
        os._exit(1)
