"""predict: one model in one actor. Shards of arrays in, shards of rows out.

An actor runs several calls at once, so that one shard computes while the next is collated and the last one's rows
leave; the lock round `forward` is what they share of the device. Nothing is carried from one call to the next.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.heads.base import ColumnType, Head
from pipeline.heads.latents import latent_columns, latent_rows
from pipeline.perceiver import PerceiverIO
from pipeline.perceiver.checkpoint import digest, fetch
from pipeline.runtime.load import KEPT, LATENTS
from pipeline.runtime.packing import Ragged, arrays_of, pack, unpack
from pipeline.runtime.quarantine import from_table, quarantined, to_table
from pipeline.runtime.rows import empty_rows, to_rows
from pipeline.sinks.parts import Quarantined
from pipeline.sinks.schema import IDENTITY

BATCH = {"cpu": 8, "cuda": 64}
BATCH_BYTES = 64 << 20  # of arrays, where the size of a batch is ours: large frames have gigabytes of latents together


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """Which model a replica loads by itself, and onto what. A digest other than the planned one is an error."""

    checkpoint: str
    digest: str
    device: str
    dtype: str
    threads: int

    def load(self) -> PerceiverIO:
        """The model, on its device."""
        torch.set_num_threads(self.threads)
        folder = fetch(self.checkpoint)
        if (found := digest(folder)) != self.digest:
            raise RuntimeError(
                f"checkpoint {self.checkpoint} has the digest {found}, the run was planned with {self.digest}"
            )
        return PerceiverIO.from_pretrained(str(folder), device=self.device, dtype=getattr(torch, self.dtype))


class Replica:
    """A callable for `map_batches`: the model stays, shards come and go."""

    def __init__(
        self, *, ref: ModelRef, head: Head, batch_size: int | str = "auto", keep_latents: str | None = None
    ) -> None:
        """`keep_latents`: the dtype in which rows keep the latents, None where they do not."""
        self.head = head
        self.keep_latents = keep_latents
        self.columns = columns_of(head, keep_latents)
        self.device = torch.device(ref.device)
        self.batch_size = BATCH[self.device.type] if batch_size == "auto" else int(batch_size)
        self.batch_bytes = BATCH_BYTES if batch_size == "auto" else None
        self.model = ref.load()
        self.lock = threading.Lock()

    def __call__(self, row: pa.Table) -> pa.Table:
        """The packed shard of rows in plan order from a packed shard of arrays."""
        started = time.perf_counter()
        units, before, scalars = unpack(row)
        prediction = Prediction(self, units)
        done, failed = prediction.run()
        scalars["seconds_predict"] = time.perf_counter() - started - prediction.waited
        segment = pa.array([scalars["segment"]] * done.num_rows, pa.int32())
        return pack(done.append_column("segment", segment), to_table([*from_table(before), *failed]), scalars)

    def outputs(self, arrays: dict[str, list[np.ndarray]]) -> tuple[dict[str, Any], float]:
        """Columns of one micro-batch, and the seconds that it waited for other calls."""
        stored = arrays.pop(LATENTS, None)
        with torch.inference_mode():
            inputs = to_device(self.head.collate(arrays, "cpu"), self.device)
            ready = time.perf_counter()
            with self.lock:
                waited = time.perf_counter() - ready
                latents, counts = self._encoded(inputs) if stored is None else self._restored(stored)
                outputs = self.head.decode(self.model, latents, inputs)
            rows = dict(self.head.rows(outputs))
            if self.keep_latents is not None:
                rows |= latent_rows(latents, counts, self.keep_latents)
            return rows, waited

    def _encoded(self, inputs: Any) -> tuple[torch.Tensor, list[int]]:
        return self.head.encode(self.model, inputs), self.head.counts(inputs)

    def _restored(self, stored: list[np.ndarray]) -> tuple[torch.Tensor, list[int]]:
        """Latents [T, N, D] of an earlier run, and how many each unit has."""
        latents = torch.from_numpy(np.concatenate(stored)).to(self.device, self.model.dtype)
        return latents, [len(latents_of_unit) for latents_of_unit in stored]


def columns_of(head: Head, keep_latents: str | None) -> dict[str, ColumnType]:
    """All columns of a row behind those that say which unit it is."""
    return head.columns if keep_latents is None else {**head.columns, **latent_columns(keep_latents)}


class Prediction:
    """One call: the units of one shard, in micro-batches of one bucket."""

    def __init__(self, replica: Replica, units: pa.Table) -> None:
        self.replica = replica
        self.units = units
        self.arrays: dict[str, Ragged] = arrays_of(units)
        self.failed: dict[int, Quarantined] = {}
        self.waited = 0.0  # seconds, for other calls of the replica

    def run(self) -> tuple[pa.Table, list[Quarantined]]:
        """The rows of the units that were predicted, and those that were not, both in plan order."""
        batches = [done for indices in self._micro_batches() for done in self._predict(indices)]
        order = np.array([index for indices, _ in batches for index in indices], np.int64)
        rows = [rows for _, rows in batches] or [empty_rows(self.replica.columns)]
        table = pa.concat_tables(rows).combine_chunks()
        if (np.diff(order) < 0).any():  # buckets were mixed: back to plan order
            table = table.take(np.argsort(order))
        carried = [name for name in self.units.column_names if name in IDENTITY or name.startswith(KEPT)]
        kept = self.units.select(carried).take(np.sort(order))
        for name in table.column_names:
            kept = kept.append_column(table.schema.field(name), table.column(name))
        return kept, [self.failed[index] for index in sorted(self.failed)]

    def _micro_batches(self) -> Iterator[list[int]]:
        """Indices of units of one bucket of the head, at most `batch_size` of them and, where set, `batch_bytes`."""
        by_bucket: dict[Hashable, list[int]] = defaultdict(list)
        for index in range(self.units.num_rows):
            shapes = {name: array.shapes[index] for name, array in self.arrays.items() if name != LATENTS}
            by_bucket[self.replica.head.bucket(shapes)].append(index)
        for indices in by_bucket.values():
            size = self._batch_size(max(self._bytes(index) for index in indices))
            yield from (indices[begin : begin + size] for begin in range(0, len(indices), size))

    def _batch_size(self, unit_bytes: int) -> int:
        """How many units of so many bytes, at least one, go together."""
        size, most = self.replica.batch_size, self.replica.batch_bytes
        return size if most is None else max(1, min(size, most // max(1, unit_bytes)))

    def _bytes(self, index: int) -> int:
        """Of the arrays of a unit."""
        return sum(ragged[index].nbytes for ragged in self.arrays.values())

    def _predict(self, indices: list[int]) -> list[tuple[list[int], pa.Table]]:
        """Rows by the units they belong to. A micro-batch that fails is halved, until what fails is a unit alone."""
        arrays = {name: [ragged[index] for index in indices] for name, ragged in self.arrays.items()}
        try:
            outputs, waited = self.replica.outputs(arrays)
            self.waited += waited
            return [(indices, to_rows(outputs, self.replica.columns, len(indices)))]
        except Exception as error:  # noqa: BLE001 - whatever it raises: a single unit is quarantined, more are halved
            require_device(self.replica.device)
            if len(indices) == 1:
                self._quarantine(indices[0], error)
                return []
        half = len(indices) // 2
        return self._predict(indices[:half]) + self._predict(indices[half:])

    def _quarantine(self, index: int, error: Exception) -> None:
        unit = self.units.select(["id", "uri"]).slice(index, 1).to_pylist()[0]  # never its arrays as Python objects
        self.failed[index] = quarantined(unit["id"], unit["uri"], "predict", error)


def to_device(inputs: Any, device: torch.device) -> Any:
    """The tensors of a nested structure on the device; to a GPU from pinned memory, without waiting for the copy."""
    if isinstance(inputs, torch.Tensor):
        return inputs.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else inputs
    if isinstance(inputs, Mapping):
        return {name: to_device(value, device) for name, value in inputs.items()}
    if isinstance(inputs, (list, tuple)):
        return type(inputs)(to_device(value, device) for value in inputs)
    return inputs


def require_device(device: torch.device) -> None:
    """End the process where the GPU is past use: its errors would be laid to units. Ray starts another replica."""
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
    except Exception:  # noqa: BLE001 - a lost context fails every call from here on; the shard is retried elsewhere
        os._exit(1)
