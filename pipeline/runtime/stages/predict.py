"""predict: a callable with one loaded model, from packed shards of arrays to packed shards of rows.

An actor runs several calls in parallel: one shard computes while the next one arrives and the last one's rows leave.
With a GPU, the next shard is collated meanwhile too. What a call learns about batch sizes is used by the next ones.
"""

import time
from collections.abc import Iterator

import pyarrow as pa
import torch

from pipeline import faultpoints
from pipeline.checkpoints import CheckpointChanged
from pipeline.heads.head import Head
from pipeline.runtime.records.quarantine import quarantine_table, records_in_table
from pipeline.runtime.stages.batch_sizes import BatchSizes
from pipeline.runtime.stages.micro_batches import MicroBatches
from pipeline.runtime.stages.model_runner import ModelRef, ModelRunner
from pipeline.runtime.stages.shard_format import fatal_shard, pack, unpack

MAX_BATCH_UNITS = {"cpu": 8, "cuda": 256}  # per micro-batch, if the batch size is automatic
MAX_BATCH_BYTES = 64 << 20  # of arrays per micro-batch, if automatic: large frames have gigabytes of latents


class Replica:
    """A callable for `map_batches` that keeps its model between shards."""

    def __init__(
        self, *, ref: ModelRef, head: Head, batch_size: int | str = "auto", keep_latents: str | None = None
    ) -> None:
        """Load the model. `keep_latents`: dtype in which rows keep the latents, None if they do not."""
        self.runner = ModelRunner(ref, head, keep_latents)
        if batch_size == "auto":
            most = MAX_BATCH_UNITS[torch.device(ref.device).type]
            self.batch_sizes = BatchSizes(most, MAX_BATCH_BYTES, tuned=True)
        else:
            self.batch_sizes = BatchSizes(int(batch_size))

    def __call__(self, row: pa.Table) -> pa.Table:
        """Return the packed shard of rows in plan order of a packed shard of arrays."""
        *_, done = self.steps(row)
        return done

    def steps(self, row: pa.Table) -> Iterator[pa.Table | None]:
        """Predict a packed shard: yield None after each micro-batch, and then the packed shard of rows.

        If the checkpoint turns out to have changed, that shard has the scalar `fatal` instead, which ends the run.
        """
        faultpoints.reached("predict.begin")
        started = time.perf_counter()
        units, before, scalars = unpack(row)
        batches = MicroBatches(self.runner, self.batch_sizes, units)
        try:
            yield from batches.predict()
        except CheckpointChanged as error:  # not raised: Ray Data would repeat the shard, and count it as crashed
            yield fatal_shard(row, f"CheckpointChanged: {error}")
            return
        rows, lost = batches.result(scalars["segment"])
        scalars["seconds_predict"] = time.perf_counter() - started - batches.waited
        done = pack(rows, quarantine_table([*records_in_table(before), *lost]), scalars)
        faultpoints.reached("predict.end")
        yield done
