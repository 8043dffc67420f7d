"""Predict the units of a shard in micro-batches: halve those that fail, and quarantine a unit that fails alone."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch

from pipeline.heads.head import ColumnType
from pipeline.runtime.records.quarantine import quarantine_record
from pipeline.runtime.stages.batch_size_tuner import BatchLimits
from pipeline.runtime.stages.device import DoesNotFit, exit_if_gpu_is_lost, is_out_of_memory
from pipeline.runtime.stages.finite_check import NotFinite
from pipeline.runtime.stages.model_runner import DeviceMode, ModelRunner, NotLoaded
from pipeline.runtime.stages.output_table import empty_output_table, output_table
from pipeline.runtime.stages.shard_format import KEPT_PREFIX, LATENTS_ARRAY, unpack_arrays
from pipeline.sinks.parts import Quarantined
from pipeline.sinks.schema import IDENTITY_COLUMNS


class MicroBatches:
    """The units of one shard, in micro-batches of one bucket each."""

    def __init__(self, runner: ModelRunner, limits: BatchLimits, units: pa.Table) -> None:
        self.waited = 0.0  # seconds, for other calls of the replica
        self._runner, self._limits, self._units = runner, limits, units
        self._arrays = unpack_arrays(units)
        self._done: list[tuple[list[int], pa.Table]] = []
        self._failed: dict[int, Quarantined] = {}

    def predict(self) -> Iterator[None]:
        """Predict all units; yield after each micro-batch, so that the caller sees progress."""
        for bucket, rest in self._buckets().items():
            unit_bytes = max(sum(array[index].nbytes for array in self._arrays.values()) for index in rest)
            retries: deque[list[int]] = deque()  # parts of micro-batches that failed
            while retries or rest:
                most = self._limits.most(bucket, unit_bytes)
                if not retries:
                    size = self._limits.next_size(bucket, most)
                    batch, rest = rest[:size], rest[size:]
                elif len(batch := retries.popleft()) > most:
                    retries.extendleft(reversed(_split(batch, most)))
                    continue
                retries.extendleft(reversed(self._predict(batch, bucket)))
                yield

    def result(self) -> tuple[pa.Table, list[Quarantined]]:
        """Return the rows of the units that were predicted, and the other units, both in plan order."""
        rows = assemble_rows(self._units, self._done, self._runner.columns)
        return rows, [self._failed[index] for index in sorted(self._failed)]

    def _buckets(self) -> dict[Hashable, list[int]]:
        """Return the indices of the units by the head's buckets."""
        by_bucket: dict[Hashable, list[int]] = defaultdict(list)
        for index in range(self._units.num_rows):
            shapes = {name: array.shapes[index] for name, array in self._arrays.items() if name != LATENTS_ARRAY}
            by_bucket[self._runner.head.bucket(shapes)].append(index)
        return by_bucket

    def _predict(self, indices: list[int], bucket: Hashable) -> list[list[int]]:
        """Predict a micro-batch, or return what to try next: its halves, until what fails is a single unit.

        A size that did not fit on the device is remembered; other errors do not depend on the size.
        """
        began, waited = time.perf_counter(), self.waited
        error = self._attempt(indices, DeviceMode.SHARED)
        if error is None:
            self._limits.record(bucket, len(indices), time.perf_counter() - began - (self.waited - waited))
            return []
        out_of_memory, half = is_out_of_memory(error), max(1, len(indices) // 2)
        if out_of_memory and self._runner.release():
            return [indices]
        if len(indices) == 1:
            self._predict_alone(indices[0], error)
            return []
        if out_of_memory:
            self._limits.reduce(bucket, half)
        return _split(indices, half)

    def _attempt(self, indices: list[int], mode: DeviceMode) -> Exception | None:
        """Predict units, or return the error without its frames, which hold tensors."""
        arrays = {name: [ragged[index] for index in indices] for name, ragged in self._arrays.items()}
        try:
            columns, waited = self._runner.predict(arrays, mode)
            self.waited += waited
            self._done.append((indices, output_table(columns, self._runner.columns, len(indices))))
        except NotLoaded:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it raises: a single unit is quarantined, more are halved
            exit_if_gpu_is_lost(self._runner.device, error)
            error.__cause__ = error.__context__ = None
            return error.with_traceback(None)
        return None

    def _predict_alone(self, index: int, failure: Exception) -> None:
        """Predict a unit that failed alone in the modes in which it may succeed, or quarantine it."""
        error: Exception | None = failure
        mode, attempts = DeviceMode.SHARED, 1
        while error is not None:
            failure = error
            next_mode = self._next_mode(mode, failure)
            if next_mode is None:
                unit = self._units.select(["id", "uri"]).slice(index, 1).to_pylist()[0]
                reason = self._reason(failure, mode)
                self._failed[index] = quarantine_record(unit["id"], unit["uri"], "predict", reason, attempts=attempts)
                return
            mode, attempts = next_mode, attempts + 1
            error = self._attempt([index], mode)
            if error is not None and is_out_of_memory(error):
                self._runner.release()

    def _next_mode(self, mode: DeviceMode, error: Exception) -> DeviceMode | None:
        """Return the mode in which a unit may succeed that failed alone in this one, or None."""
        if isinstance(error, NotFinite) and mode < DeviceMode.FLOAT32 and self._runner.model.dtype != torch.float32:
            return DeviceMode.FLOAT32
        return DeviceMode.EXCLUSIVE if is_out_of_memory(error) and mode is DeviceMode.SHARED else None

    def _reason(self, error: Exception, mode: DeviceMode) -> Exception:
        """Return the last error of a unit, which says why float32 was tried if it was."""
        dtype = str(self._runner.model.dtype).removeprefix("torch.")
        if is_out_of_memory(error):
            before = f" in float32, tried because {dtype} gave NaN or infinity" if mode is DeviceMode.FLOAT32 else ""
            return DoesNotFit(f"the unit alone does not fit in the device's memory{before}")
        if isinstance(error, NotFinite) and mode is DeviceMode.FLOAT32:
            return NotFinite(f"{error} and in {dtype}")
        return error


def assemble_rows(
    units: pa.Table, done: Sequence[tuple[list[int], pa.Table]], columns: Mapping[str, ColumnType]
) -> pa.Table:
    """Return the rows of the predicted units in plan order: identity columns, kept columns and `columns`.

    done: Tables of `columns`, each with the indices of its units.
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


def _split(indices: list[int], size: int) -> list[list[int]]:
    return [indices[begin : begin + size] for begin in range(0, len(indices), size)]
