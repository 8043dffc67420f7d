"""predict: one model in one actor. Shards of arrays in, shards of rows out.

An actor runs several calls at once, so that one shard computes while the next arrives and the last one's rows leave,
and beside a GPU while the next is collated; they take turns at the device. Of one call the next knows only for how many
units the device had room, and how fast it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch

from pipeline import faultpoints
from pipeline.checkpoints import digest, fetch
from pipeline.heads.head import ColumnType, Head
from pipeline.heads.latent_columns import latent_column_types, latent_column_values
from pipeline.perceiver import PerceiverIO, ShardedPerceiverIO
from pipeline.runtime.records.quarantine import quarantine_table, records_in_table
from pipeline.runtime.stages.batch_size_tuner import BatchSizeTuner
from pipeline.runtime.stages.compute_thread import compute_runner
from pipeline.runtime.stages.device import DeviceLock, apply_test_memory_limit, empty_cache, to_device
from pipeline.runtime.stages.finite_check import FiniteCheckedModel
from pipeline.runtime.stages.load import LATENTS_ARRAY
from pipeline.runtime.stages.micro_batches import DeviceMode, NotLoaded, Prediction
from pipeline.runtime.stages.shard_format import pack, unpack

MAX_BATCH_UNITS = {"cpu": 8, "cuda": 256}  # units at most, where the size is found while predicting
MAX_BATCH_BYTES = 64 << 20  # of arrays, if the batch size is automatic: large frames have gigabytes of latents


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """Which model a replica loads by itself, and onto what. A digest other than the planned one is an error."""

    checkpoint: str
    digest: str
    device: str
    dtype: str
    threads: int
    devices: int = 1

    def load(self) -> PerceiverIO | ShardedPerceiverIO:
        """The model, on its device or, split, on the first so many of that kind that the process sees."""
        folder = fetch(self.checkpoint)
        if (found := digest(folder)) != self.digest:
            raise RuntimeError(
                f"checkpoint {self.checkpoint} has the digest {found}, the run was planned with {self.digest}"
            )
        dtype = getattr(torch, self.dtype)
        if self.devices == 1:
            return PerceiverIO.from_pretrained(str(folder), device=self.device, dtype=dtype)
        devices = [self.device if self.device == "cpu" else f"{self.device}:{n}" for n in range(self.devices)]
        return ShardedPerceiverIO.from_pretrained(str(folder), devices=devices, dtype=dtype)


class Replica:
    """A callable for `map_batches`: the model stays, shards come and go."""

    def __init__(
        self, *, ref: ModelRef, head: Head, batch_size: int | str = "auto", keep_latents: str | None = None
    ) -> None:
        """`keep_latents`: the dtype in which rows keep the latents, None where they do not."""
        self.ref = ref
        self.head = head
        self.keep_latents = keep_latents
        self.columns = output_columns(head, keep_latents)
        self.device = torch.device(ref.device)
        self.batch_size = MAX_BATCH_UNITS[self.device.type] if batch_size == "auto" else int(batch_size)
        self.batch_bytes = MAX_BATCH_BYTES if batch_size == "auto" else None
        self.held: dict[Hashable, int] = {}
        self.sizes = BatchSizeTuner() if batch_size == "auto" else None
        self.compute = compute_runner(self.device, ref.threads)
        self.model = self.compute(ref.load)
        self.dtype = self.model.dtype
        self.turns = DeviceLock()
        self.lock = threading.Lock()  # of who computes
        self._float32: PerceiverIO | ShardedPerceiverIO | None = None  # for units that are not finite otherwise

    def __call__(self, row: pa.Table) -> pa.Table:
        """The packed shard of rows in plan order from a packed shard of arrays."""
        *_, done = self.steps(row)
        return done

    def steps(self, row: pa.Table) -> Iterator[pa.Table | None]:
        """The same in steps: None after each micro-batch, the packed shard at last."""
        faultpoints.reached("predict.begin")
        started = time.perf_counter()
        units, before, scalars = unpack(row)
        prediction = Prediction(self, units)
        yield from prediction.work()
        rows, failed = prediction.result()
        scalars["seconds_predict"] = time.perf_counter() - started - prediction.waited
        segment = pa.array([scalars["segment"]] * rows.num_rows, pa.int32())
        done = pack(
            rows.append_column("segment", segment), quarantine_table([*records_in_table(before), *failed]), scalars
        )
        faultpoints.reached("predict.end")
        yield done

    def outputs(self, arrays: dict[str, list[np.ndarray]], way: DeviceMode) -> tuple[dict[str, Any], float]:
        """Columns of one micro-batch, and the seconds that it waited for other calls.

        NotFinite where something in it is not; OutOfMemoryError where the device has no room for it.
        """
        asked = time.perf_counter()
        with self.turns.shared() if way is DeviceMode.SHARED else self.turns.exclusive():
            return self.compute(self._outputs, arrays, way, asked)

    def release(self) -> bool:
        """Free what the device could do without: the float32 model, and what torch keeps. Whether there was one."""
        had, self._float32 = self._float32 is not None, None
        empty_cache(self.device)
        return had

    def _outputs(
        self, arrays: dict[str, list[np.ndarray]], way: DeviceMode, asked: float
    ) -> tuple[dict[str, Any], float]:
        """`outputs`, asked for at that time. Its tensors are gone from the device when it returns."""
        waited = time.perf_counter() - asked
        model = self._float32_model() if way is DeviceMode.FLOAT32 else self.model
        units, stored = len(next(iter(arrays.values()))), arrays.pop(LATENTS_ARRAY, None)
        with torch.inference_mode():
            inputs = to_device(self.head.collate(arrays), self.device)
            ready = time.perf_counter()
            with self.lock:
                waited += time.perf_counter() - ready
                apply_test_memory_limit(units)
                guarded = FiniteCheckedModel(model)
                seen = cast("PerceiverIO", guarded)
                latents, counts = self._encoded(seen, inputs) if stored is None else self._restored(guarded, stored)
                outputs = self.head.decode(seen, latents, inputs)
            guarded.check()
            rows = dict(self.head.rows(outputs))
            if self.keep_latents is not None:
                rows |= latent_column_values(latents, counts, self.keep_latents)
            return rows, waited

    def _encoded(self, model: PerceiverIO, inputs: Any) -> tuple[torch.Tensor, list[int]]:
        return self.head.encode(model, inputs), self.head.latents_per_unit(inputs)

    def _restored(self, model: FiniteCheckedModel, stored: list[np.ndarray]) -> tuple[torch.Tensor, list[int]]:
        """Latents [T, N, D] of an earlier run, and how many each unit has."""
        latents = torch.from_numpy(np.concatenate(stored)).to(self.device, model.dtype)
        model.note("stored latents", latents)
        return latents, [len(latents_of_unit) for latents_of_unit in stored]

    def _float32_model(self) -> PerceiverIO | ShardedPerceiverIO:
        """The model in float32, loaded when it is first needed and kept. By who is alone on the device."""
        if self._float32 is None:
            try:
                self._float32 = replace(self.ref, dtype="float32").load()
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                raise NotLoaded(f"the model could not be loaded in float32: {error}") from error
        return self._float32


def output_columns(head: Head, keep_latents: str | None) -> dict[str, ColumnType]:
    """All columns of a row behind those that say which unit it is."""
    return head.columns if keep_latents is None else {**head.columns, **latent_column_types(keep_latents)}
