"""predict, for shards that were lost: the model in a child process, so that a unit which ends it is found."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.heads.head import Head
from pipeline.runtime.errors import reason
from pipeline.runtime.records.quarantine import quarantine_record, quarantine_table, records_in_table
from pipeline.runtime.stages.micro_batches import assemble_rows
from pipeline.runtime.stages.predict import ModelRef, Replica, output_columns
from pipeline.runtime.stages.shard_format import pack, unpack
from pipeline.sandbox import Died, ResourceLimits, Sandbox
from pipeline.sinks.parts import Quarantined

# Of a micro-batch, or of loading the model: a clip takes minutes on a slow CPU, and a model that hangs takes for ever.
MICRO_BATCH_SECONDS = 900.0
MAX_ATTEMPTS = 2  # of a unit alone, where its process ends

_replicas: list[Replica] = []  # the one of a child, once it is loaded


class IsolatedReplica:
    """A callable for `map_batches`, as `Replica`, that a shard cannot kill. The device's memory is its child's alone.

    A shard is predicted whole; where that ends the child, unit by unit. What a unit's prediction raises costs that
    unit as ever, and one that ends its child each time is quarantined for that.
    """

    def __init__(
        self,
        *,
        ref: ModelRef,
        head: Head,
        batch_size: int | str = "auto",
        keep_latents: str | None = None,
        attempts: int = 0,
    ) -> None:
        """`attempts`: how often a shard was tried before. The other arguments are a `Replica`'s."""
        arguments = {"ref": ref, "head": head, "batch_size": batch_size, "keep_latents": keep_latents}
        self.predict = partial(_predict, arguments)
        self.columns = output_columns(head, keep_latents)
        self.attempts = attempts
        self.child = Sandbox(ResourceLimits(seconds=MICRO_BATCH_SECONDS))
        self.lock = threading.Lock()  # one run at a time, so that the child's death tells which shard was its end

    def __call__(self, row: pa.Table) -> pa.Table:
        """The packed shard of rows in plan order from a packed shard of arrays.

        Where the model cannot be loaded, which no unit has to do with, it comes out with the scalar `fatal`.
        """
        with self.lock:
            try:
                found = self._run(row)
                return self._one_by_one(row) if isinstance(found, Died) else found
            except Exception as error:  # noqa: BLE001 - whatever it is, the run ends with it
                return _fatal(row, error)

    def _one_by_one(self, row: pa.Table) -> pa.Table:
        """The same, each unit in a run of its own."""
        started = time.perf_counter()
        units, before, scalars = unpack(row)
        tries = MAX_ATTEMPTS if units.num_rows > 1 else MAX_ATTEMPTS - 1  # a unit that is a shard was alone before
        done: list[tuple[list[int], pa.Table]] = []
        failed: list[Quarantined] = []
        for index in range(units.num_rows):
            unit = units.take([index])  # its own buffers: of a slice the whole shard's would travel
            found = self._insist(pack(unit, quarantine_table([]), scalars), tries)
            if isinstance(found, Died):
                failed.append(_quarantined(unit, found, self.attempts + 1 + tries))
                continue
            rows, lost, _ = unpack(found)
            done += [([index], rows.select(list(self.columns)))] if rows.num_rows else []
            failed += records_in_table(lost)
        table = assemble_rows(units, done, self.columns)
        table = table.append_column("segment", pa.array([scalars["segment"]] * table.num_rows, pa.int32()))
        scalars["seconds_predict"] = time.perf_counter() - started
        return pack(table, quarantine_table([*records_in_table(before), *failed]), scalars)

    def _insist(self, row: pa.Table, tries: int) -> pa.Table | Died:
        """`_run`, again where the child has ended."""
        for _ in range(tries):
            found = self._run(row)
            if not isinstance(found, Died):
                break
        return found

    def _run(self, row: pa.Table) -> pa.Table | Died:
        """A packed shard, predicted in the child, or how the child ended."""
        loaded, found = False, None
        try:
            for step in self.child.run(self.predict, row):
                loaded, found = True, step
        except Died as error:
            if not loaded:
                raise
            return error
        return found


def _fatal(row: pa.Table, error: Exception) -> pa.Table:
    """The shard as it came, and why the run cannot go on."""
    units, before, scalars = unpack(row)
    return pack(units, before, scalars | {"fatal": f"no replica: {reason(error)}", "seconds_predict": 0.0})


def _quarantined(unit: pa.Table, error: Died, attempts: int) -> Quarantined:
    names = unit.select(["id", "uri"]).to_pylist()[0]
    return quarantine_record(names["id"], names["uri"], "predict", error, attempts=attempts)


def _predict(arguments: dict[str, Any], row: pa.Table) -> Iterator[pa.Table | None]:
    """In the child: None once the model is there and after each micro-batch, the packed shard of rows at last."""
    if not _replicas:
        _replicas.append(Replica(**arguments))
    yield None
    yield from _replicas[0].steps(row)
