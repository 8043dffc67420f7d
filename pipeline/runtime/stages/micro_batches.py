"""The units of a shard in micro-batches: what fails is halved, and a unit that fails alone is quarantined."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch

from pipeline.heads.head import ColumnType, Head
from pipeline.runtime.records.quarantine import quarantine_record
from pipeline.runtime.stages.batch_size_tuner import BatchSizeTuner
from pipeline.runtime.stages.device import DoesNotFit, exit_if_gpu_is_lost, is_out_of_memory
from pipeline.runtime.stages.finite_check import NotFinite
from pipeline.runtime.stages.load import KEPT_PREFIX, LATENTS_ARRAY
from pipeline.runtime.stages.output_table import empty_output_table, output_table
from pipeline.runtime.stages.shard_format import RaggedArrays, unpack_arrays
from pipeline.sinks.parts import Quarantined
from pipeline.sinks.schema import IDENTITY_COLUMNS


class DeviceMode(IntEnum):
    """How a micro-batch is predicted: beside those of other calls, alone on the device, or alone and in float32."""

    SHARED = 0
    EXCLUSIVE = 1
    FLOAT32 = 2


class NotLoaded(RuntimeError):  # noqa: N818
    """The model could not be loaded again: no fault of the units that it was needed for."""


class Predictor(Protocol):
    """What predicts micro-batches: a replica."""

    head: Head
    columns: dict[str, ColumnType]
    device: torch.device
    dtype: torch.dtype
    batch_size: int
    batch_bytes: int | None
    held: dict[Hashable, int]
    """The size that the device had room for, by bucket, where it had none for a larger one."""
    sizes: BatchSizeTuner | None
    """Where the size of a batch is found while predicting."""

    def outputs(self, arrays: dict[str, list[np.ndarray]], way: DeviceMode) -> tuple[dict[str, Any], float]:
        """Columns of one micro-batch, and the seconds that it waited for other calls."""

    def release(self) -> bool:
        """Free what the device could do without; whether there was anything."""


class Prediction:
    """One call: the units of one shard, in micro-batches of one bucket."""

    def __init__(self, replica: Predictor, units: pa.Table) -> None:
        self.replica = replica
        self.units = units
        self.arrays: dict[str, RaggedArrays] = unpack_arrays(units)
        self.done: list[tuple[list[int], pa.Table]] = []
        self.failed: dict[int, Quarantined] = {}
        self.waited = 0.0  # seconds, for other calls of the replica

    def work(self) -> Iterator[None]:
        """Predict all units; a pause after each micro-batch, so that whoever watches sees that it goes on."""
        for bucket, indices in self._buckets().items():
            usual = self._usual_size(indices)
            again: deque[list[int]] = deque()  # what failed together, in smaller pieces
            rest = indices
            while again or rest:
                most = min(usual, self.replica.held.get(bucket, usual))
                if again:
                    some = again.popleft()
                    if len(some) > most:
                        again.extendleft(reversed(_cut(some, most)))
                        continue
                else:
                    sizes = self.replica.sizes
                    size = most if sizes is None else sizes.next(bucket, most)
                    some, rest = rest[:size], rest[size:]
                again.extendleft(reversed(self._predict(some, bucket)))
                yield

    def result(self) -> tuple[pa.Table, list[Quarantined]]:
        """The rows of the units that were predicted, and those that were not, both in plan order."""
        rows = assemble_rows(self.units, self.done, self.replica.columns)
        return rows, [self.failed[index] for index in sorted(self.failed)]

    def _buckets(self) -> dict[Hashable, list[int]]:
        """Indices of units by the head's buckets."""
        by_bucket: dict[Hashable, list[int]] = defaultdict(list)
        for index in range(self.units.num_rows):
            shapes = {name: array.shapes[index] for name, array in self.arrays.items() if name != LATENTS_ARRAY}
            by_bucket[self.replica.head.bucket(shapes)].append(index)
        return by_bucket

    def _usual_size(self, indices: list[int]) -> int:
        """How many of these units go together: at least one, at most `batch_size` and, where set, `batch_bytes`."""
        size, most = self.replica.batch_size, self.replica.batch_bytes
        unit = max(sum(ragged[index].nbytes for ragged in self.arrays.values()) for index in indices)
        return size if most is None else max(1, min(size, most // max(1, unit)))

    def _predict(self, indices: list[int], bucket: Hashable) -> list[list[int]]:
        """Predict a micro-batch, or give what of it to try next: its halves, until what fails is a unit alone.

        Where the device had no room the size is remembered; not where a size is no reason to fail.
        """
        began, waited = time.perf_counter(), self.waited
        error = self._attempt(indices, DeviceMode.SHARED)
        if error is None:
            if self.replica.sizes is not None:
                self.replica.sizes.note(bucket, len(indices), time.perf_counter() - began - (self.waited - waited))
            return []
        no_room, half = is_out_of_memory(error), max(1, len(indices) // 2)
        if no_room and self.replica.release():
            return [indices]
        if len(indices) == 1:
            self._insist(indices[0], error)
            return []
        if no_room:
            self.replica.held[bucket] = min(half, self.replica.held.get(bucket, half))
        return _cut(indices, half)

    def _attempt(self, indices: list[int], way: DeviceMode) -> Exception | None:
        """Predict these units, or say what went wrong: the error without the frames, which hold tensors."""
        arrays = {name: [ragged[index] for index in indices] for name, ragged in self.arrays.items()}
        try:
            outputs, waited = self.replica.outputs(arrays, way)
            self.waited += waited
            self.done.append((indices, output_table(outputs, self.replica.columns, len(indices))))
        except NotLoaded:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it raises: a single unit is quarantined, more are halved
            exit_if_gpu_is_lost(self.replica.device, error)
            error.__cause__ = error.__context__ = None
            return error.with_traceback(None)
        return None

    def _insist(self, index: int, error: Exception) -> None:
        """Predict a unit that failed by itself in another way, where what went wrong has one; else quarantine it."""
        way, attempts = DeviceMode.SHARED, 1
        while (another := self._another(way, error)) is not None:
            way, attempts = another, attempts + 1
            found = self._attempt([index], way)
            if found is None:
                return
            error = found
            if is_out_of_memory(error):
                self.replica.release()
        self._quarantine(index, self._in_words(error, way), attempts)

    def _another(self, way: DeviceMode, error: Exception) -> DeviceMode | None:
        """How a unit alone may succeed that did not this way; None where it will not."""
        if isinstance(error, NotFinite) and way < DeviceMode.FLOAT32 and self.replica.dtype != torch.float32:
            return DeviceMode.FLOAT32
        return DeviceMode.EXCLUSIVE if is_out_of_memory(error) and way is DeviceMode.SHARED else None

    def _in_words(self, error: Exception, way: DeviceMode) -> Exception:
        """The last error of a unit, which says why float32 was tried where it was."""
        dtype = str(self.replica.dtype).removeprefix("torch.")
        if is_out_of_memory(error):
            before = f" in float32; in {dtype} it is not finite" if way is DeviceMode.FLOAT32 else ""
            return DoesNotFit(f"the unit alone does not fit in the device's memory{before}")
        if isinstance(error, NotFinite) and way is DeviceMode.FLOAT32:
            return NotFinite(f"{error} and in {dtype}")
        return error

    def _quarantine(self, index: int, error: Exception, attempts: int) -> None:
        unit = self.units.select(["id", "uri"]).slice(index, 1).to_pylist()[0]  # never its arrays as Python objects
        self.failed[index] = quarantine_record(unit["id"], unit["uri"], "predict", error, attempts=attempts)


def assemble_rows(
    units: pa.Table, done: Sequence[tuple[list[int], pa.Table]], columns: Mapping[str, ColumnType]
) -> pa.Table:
    """The rows of those units that are done, in plan order: what says which unit it is, kept columns, `columns`.

    done: tables of `columns`, each with the indices of its units.
    """
    order = np.array([index for indices, _ in done for index in indices], np.int64)
    tables = [table for _, table in done] or [empty_output_table(columns)]
    table = pa.concat_tables(tables).combine_chunks()
    if (np.diff(order) < 0).any():  # buckets were mixed: back to plan order
        table = table.take(np.argsort(order))
    carried = [name for name in units.column_names if name in IDENTITY_COLUMNS or name.startswith(KEPT_PREFIX)]
    kept = units.select(carried).take(np.sort(order))
    for name in table.column_names:
        kept = kept.append_column(table.schema.field(name), table.column(name))
    return kept


def _cut(indices: list[int], size: int) -> list[list[int]]:
    return [indices[begin : begin + size] for begin in range(0, len(indices), size)]
