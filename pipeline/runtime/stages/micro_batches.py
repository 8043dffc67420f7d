"""Predict the units of a shard in micro-batches: halve those that fail, and quarantine a unit that fails alone."""

import time
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator

import pyarrow as pa
import torch

from pipeline.checkpoints import CheckpointChanged
from pipeline.runtime.records.quarantine import quarantine_record
from pipeline.runtime.stages.batch_sizes import BatchSizes
from pipeline.runtime.stages.device import DoesNotFit, exit_if_gpu_is_lost, is_out_of_memory
from pipeline.runtime.stages.finite_check import NotFinite
from pipeline.runtime.stages.model_runner import DeviceMode, ModelRunner, NotLoaded
from pipeline.runtime.stages.output_table import assemble_rows, output_table
from pipeline.runtime.stages.shard_format import LATENTS_ARRAY, unpack_arrays
from pipeline.sinks.parts import Quarantined


class MicroBatches:
    """The units of one shard, in micro-batches of one bucket each."""

    def __init__(self, runner: ModelRunner, sizes: BatchSizes, units: pa.Table) -> None:
        self.waited = 0.0  # seconds, for other calls of the replica
        self._runner, self._sizes, self._units = runner, sizes, units
        self._arrays = unpack_arrays(units)
        self._done: list[tuple[list[int], pa.Table]] = []
        self._failed: dict[int, Quarantined] = {}

    def predict(self) -> Iterator[None]:
        """Predict all units; yield after each micro-batch, so that the caller sees progress."""
        for bucket, rest in self._buckets().items():
            unit_bytes = max(sum(items[index].nbytes for items in self._arrays.values()) for index in rest)
            retries: deque[list[int]] = deque()  # parts of micro-batches that failed
            while retries or rest:
                most = self._sizes.most(bucket, unit_bytes)
                if not retries:
                    size = self._sizes.next(bucket, most)
                    batch, rest = rest[:size], rest[size:]
                elif len(batch := retries.popleft()) > most:
                    retries.extendleft(reversed(_split(batch, most)))
                    continue
                retries.extendleft(reversed(self._predict(batch, bucket)))
                yield

    def result(self, segment: int) -> tuple[pa.Table, list[Quarantined]]:
        """Return the rows of the units that were predicted, and the other units, both in plan order."""
        rows = assemble_rows(self._units, self._done, self._runner.columns, segment)
        return rows, [self._failed[index] for index in sorted(self._failed)]

    def _buckets(self) -> dict[Hashable, list[int]]:
        """Return the indices of the units by the head's buckets."""
        by_bucket: dict[Hashable, list[int]] = defaultdict(list)
        for index in range(self._units.num_rows):
            shapes = {name: items[index].shape for name, items in self._arrays.items() if name != LATENTS_ARRAY}
            by_bucket[self._runner.head.bucket(shapes)].append(index)
        return by_bucket

    def _predict(self, indices: list[int], bucket: Hashable) -> list[list[int]]:
        """Predict a micro-batch, or return what to try next: its halves, until what fails is a single unit.

        A size that did not fit on the device is remembered; other errors do not depend on the size.
        """
        began, waited = time.perf_counter(), self.waited
        error = self._attempt(indices, DeviceMode.SHARED)
        if error is None:
            self._sizes.record(bucket, len(indices), time.perf_counter() - began - (self.waited - waited))
            return []
        out_of_memory, half = is_out_of_memory(error), max(1, len(indices) // 2)
        if out_of_memory and self._runner.release():
            return [indices]
        if len(indices) == 1:
            self._predict_alone(indices[0], error)
            return []
        if out_of_memory:
            self._sizes.reduce(bucket, half)
        return _split(indices, half)

    def _attempt(self, indices: list[int], mode: DeviceMode) -> Exception | None:
        """Predict units, or return the error without its frames, which hold tensors."""
        arrays = {name: [items[index] for index in indices] for name, items in self._arrays.items()}
        try:
            columns, waited = self._runner.predict(arrays, mode)
            self.waited += waited
            self._done.append((indices, output_table(columns, self._runner.columns, len(indices))))
        except (NotLoaded, CheckpointChanged):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it raises: a single unit is quarantined, more are halved
            exit_if_gpu_is_lost(self._runner.device, error)
            error.__cause__ = error.__context__ = None
            return error.with_traceback(None)
        return None

    def _predict_alone(self, index: int, error: Exception) -> None:
        """Predict a unit that failed alone in the modes in which it may succeed, or quarantine it."""
        mode, attempts = DeviceMode.SHARED, 1
        while (next_mode := self._next_mode(mode, error)) is not None:
            mode, attempts = next_mode, attempts + 1
            failure = self._attempt([index], mode)
            if failure is None:
                return
            error = failure
            if is_out_of_memory(error):
                self._runner.release()
        unit_id, uri = (self._units[name][index].as_py() for name in ("id", "uri"))
        self._failed[index] = quarantine_record(unit_id, uri, "predict", self._reason(error, mode), attempts=attempts)

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


def _split(indices: list[int], size: int) -> list[list[int]]:
    return [indices[begin : begin + size] for begin in range(0, len(indices), size)]
