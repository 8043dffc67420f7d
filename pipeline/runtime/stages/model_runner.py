"""One model on its device: columns of one micro-batch at a time, in the model's dtype or in float32."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, cast

import numpy as np
import torch

from pipeline.checkpoints import CheckpointChanged, fetch, unchanged
from pipeline.heads.head import Head
from pipeline.heads.latent_columns import latent_column_values, output_columns
from pipeline.perceiver import PerceiverIO, ShardedPerceiverIO
from pipeline.runtime.stages.compute_thread import compute_runner
from pipeline.runtime.stages.device import DeviceLock, apply_test_memory_limit, require_device, to_device
from pipeline.runtime.stages.finite_check import FiniteCheckedModel
from pipeline.runtime.stages.shard_format import LATENTS_ARRAY


class DeviceMode(IntEnum):
    """How a micro-batch uses the device: next to those of other calls, alone, or alone and in float32."""

    SHARED = 0
    EXCLUSIVE = 1
    FLOAT32 = 2


class NotLoaded(RuntimeError):  # noqa: N818
    """The model could not be loaded in float32: no fault of the units that need it."""


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """Which model to load, and onto which devices. Another digest than the planned one is an error."""

    checkpoint: str
    digest: str
    device: str
    dtype: str
    threads: int
    devices: int = 1

    def load(self) -> PerceiverIO | ShardedPerceiverIO:
        """Return the model on its device or, split, on the first `devices` devices that the process sees.

        Raises CheckpointChanged if the checkpoint is not the planned one, or changes while it is read, and
        DeviceNotUsable.
        """
        require_device(self.device)
        folder = fetch(self.checkpoint)
        with unchanged(folder) as found:
            if found != self.digest:
                planned = f"its digest is {found}, the run was planned with {self.digest}"
                raise CheckpointChanged(f"checkpoint {self.checkpoint} changed: {planned}")
            return self._load(str(folder))

    def _load(self, folder: str) -> PerceiverIO | ShardedPerceiverIO:
        dtype = getattr(torch, self.dtype)
        if self.devices == 1:
            return PerceiverIO.from_pretrained(folder, device=self.device, dtype=dtype)
        devices = [self.device if self.device == "cpu" else f"{self.device}:{n}" for n in range(self.devices)]
        return ShardedPerceiverIO.from_pretrained(folder, devices=devices, dtype=dtype)


class ModelRunner:
    """Predicts micro-batches with one model, for several threads."""

    def __init__(self, ref: ModelRef, head: Head, keep_latents: str | None = None) -> None:
        """Load the model. `keep_latents`: dtype in which rows keep the latents, None if they do not."""
        self.head, self.columns = head, output_columns(head, keep_latents)
        self.device = torch.device(ref.device)
        self.compute = compute_runner(self.device, ref.threads)
        self.model: PerceiverIO | ShardedPerceiverIO = self.compute(ref.load)
        self._ref, self._keep_latents = ref, keep_latents
        self._device_lock, self._compute_lock = DeviceLock(), threading.Lock()
        self._float32: PerceiverIO | ShardedPerceiverIO | None = None

    def predict(self, arrays: dict[str, list[np.ndarray]], mode: DeviceMode) -> tuple[dict[str, Any], float]:
        """Return the columns of one micro-batch, from the arrays of its units, and seconds waited for other calls.

        Raises NotFinite for NaN or infinity in it, OutOfMemoryError if it does not fit on the device, NotLoaded,
        CheckpointChanged, and whatever the head raises.
        """
        called = time.perf_counter()
        with self._device_lock.hold(exclusive=mode is not DeviceMode.SHARED):
            return self.compute(self._predict, arrays, mode, called)

    def release(self) -> bool:
        """Free the float32 model and torch's cached memory; return whether there was a float32 model."""
        loaded, self._float32 = self._float32 is not None, None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # its fragments may be too small for the next allocation
        return loaded

    def _predict(
        self, arrays: dict[str, list[np.ndarray]], mode: DeviceMode, called: float
    ) -> tuple[dict[str, Any], float]:
        """Do the work of `predict`. Its tensors are gone from the device when it returns."""
        waited = time.perf_counter() - called
        model = FiniteCheckedModel(self._load_float32() if mode is DeviceMode.FLOAT32 else self.model)
        units, stored = len(next(iter(arrays.values()))), arrays.pop(LATENTS_ARRAY, None)
        with torch.inference_mode():
            inputs = to_device(self.head.collate(arrays), self.device)
            ready = time.perf_counter()
            with self._compute_lock:
                waited += time.perf_counter() - ready
                apply_test_memory_limit(units)
                latents, counts = self._latents(model, inputs, stored)
                outputs = self.head.decode(cast("PerceiverIO", model), latents, inputs)
            model.check()
            columns = dict(self.head.rows(outputs))
            if self._keep_latents is not None:
                columns |= latent_column_values(latents, counts, self._keep_latents)
            return columns, waited

    def _latents(
        self, model: FiniteCheckedModel, inputs: Any, stored: Sequence[np.ndarray] | None
    ) -> tuple[torch.Tensor, list[int]]:
        """Return latents [T, N, D], encoded or stored by an earlier run, and how many of the T each unit has."""
        if stored is None:
            return self.head.encode(cast("PerceiverIO", model), inputs), self.head.latents_per_unit(inputs)
        latents = torch.from_numpy(np.concatenate(stored)).to(self.device, model.dtype)
        model.note("stored latents", latents)
        return latents, [len(each) for each in stored]

    def _load_float32(self) -> PerceiverIO | ShardedPerceiverIO:
        """Return the model in float32, loaded at first use and kept. The caller has the device for itself."""
        if self._float32 is None:
            try:
                self._float32 = replace(self._ref, dtype="float32").load()
            except (torch.OutOfMemoryError, CheckpointChanged):
                raise
            except Exception as error:
                raise NotLoaded(f"the model could not be loaded in float32: {error}") from error
        return self._float32
