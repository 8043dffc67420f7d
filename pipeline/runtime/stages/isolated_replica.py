"""predict for shards that crashed: the model runs in a sandbox, so that the unit that crashes it is found."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.checkpoints import CheckpointChanged
from pipeline.heads.head import Head
from pipeline.heads.latent_columns import output_columns
from pipeline.runtime.errors import reason
from pipeline.runtime.records.quarantine import quarantine_record, quarantine_table, records_in_table
from pipeline.runtime.stages.output_table import assemble_rows
from pipeline.runtime.stages.predict import Replica
from pipeline.runtime.stages.shard_format import fatal_shard, pack, unpack
from pipeline.sandbox import Failed, ResourceLimits, Sandbox, Started, run_items
from pipeline.sinks.parts import Quarantined

MICRO_BATCH_SECONDS = 900.0  # time limit per micro-batch and for loading the model: a clip takes minutes on a slow CPU
MAX_ATTEMPTS = 2  # per unit that crashes the model's process alone

_replicas: list[Replica] = []  # in the sandbox: its one replica, once it is loaded


class IsolatedReplica:
    """A callable for `map_batches`, like `Replica`, that a shard cannot crash.

    A shard is predicted as a whole and, if that crashes the sandbox, unit by unit. A unit that crashes it alone is
    quarantined. The model is loaded in the sandbox only.
    """

    def __init__(self, *, head: Head, keep_latents: str | None = None, attempts: int = 0, **arguments: Any) -> None:
        """Take the arguments of a `Replica`, and the number of earlier attempts at each shard."""
        self.predict = partial(_predict, arguments | {"head": head, "keep_latents": keep_latents})
        self.columns = output_columns(head, keep_latents)
        self.attempts = attempts
        self.sandbox = Sandbox(ResourceLimits(seconds=MICRO_BATCH_SECONDS))
        self.lock = threading.Lock()  # one shard at a time, so that a crash is of a known shard

    def __call__(self, row: pa.Table) -> pa.Table:
        """Return the packed shard of rows in plan order of a packed shard of arrays.

        If the model cannot be loaded, return the shard with the scalar `fatal`, which ends the run.
        """
        with self.lock:
            try:
                result = self._run(row, attempts=1)
                return self._predict_units(row) if isinstance(result, Failed) else result
            except CheckpointChanged as error:
                return fatal_shard(row, f"CheckpointChanged: {error}")
            except Exception as error:  # noqa: BLE001 - no error of a unit leaves a replica: the run cannot continue
                return fatal_shard(row, f"the replica failed: {reason(error)}")

    def _predict_units(self, row: pa.Table) -> pa.Table:
        """Return the packed shard of rows, each unit predicted by a call of its own."""
        started = time.perf_counter()
        units, before, scalars = unpack(row)
        attempts = MAX_ATTEMPTS if units.num_rows > 1 else MAX_ATTEMPTS - 1  # the only unit of a shard was alone before
        done: list[tuple[list[int], pa.Table]] = []
        failed: list[Quarantined] = []
        for index in range(units.num_rows):
            unit = units.take([index])  # its own buffers: a slice would send those of the whole shard
            result = self._run(pack(unit, quarantine_table([]), scalars), attempts)
            if isinstance(result, Failed):
                names = unit.select(["id", "uri"]).to_pylist()[0]
                count = self.attempts + 1 + result.attempts
                failed.append(quarantine_record(names["id"], names["uri"], "predict", result.error, attempts=count))
                continue
            rows, lost, _ = unpack(result)
            done += [([index], rows.select(list(self.columns)))] if rows.num_rows else []
            failed += records_in_table(lost)
        table = assemble_rows(units, done, self.columns, scalars["segment"])
        scalars["seconds_predict"] = time.perf_counter() - started
        return pack(table, quarantine_table([*records_in_table(before), *failed]), scalars)

    def _run(self, row: pa.Table, attempts: int) -> pa.Table | Failed:
        """Return a packed shard predicted in the sandbox, or how it crashed. Raises Died if the model's loading did."""
        with closing(run_items(lambda _: self.sandbox.run(self.predict, row), attempts=attempts)) as results:
            return next(results)  # the shard is the only item


def _predict(arguments: dict[str, Any], row: pa.Table) -> Iterator[pa.Table | Started]:
    """In the sandbox: yield `Started` once the model is loaded and after each micro-batch, and then the shard."""
    if not _replicas:
        _replicas.append(Replica(**arguments))
    yield Started()
    for step in _replicas[0].steps(row):
        yield Started() if step is None else step
