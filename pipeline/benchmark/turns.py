"""One turn of each: the engine on units in memory, a whole run into an OUTPUT of its own, the plain script."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import ray
import torch
from rich.console import Console

from pipeline.benchmark.monitor import Watched, watched
from pipeline.perceiver import PerceiverIO
from pipeline.reference import transformers_model
from pipeline.reference.parity import engine_predict
from pipeline.reference.sample_inputs import sample_unit, to_device
from pipeline.runtime.driver.prepare import PreparedRun, prepare_run
from pipeline.runtime.driver.run import Driver
from pipeline.runtime.options import RunOptions
from pipeline.runtime.records.manifest import MANIFEST


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One whole run. All in seconds but `units` and `peak_bytes`, which are of the process that has the model.

    whole: from the call to the last file. start: until the model begins to load, model: loading it. predicting: from
    then until the last unit is committed; units that were read meanwhile wait for it there. load, predict, write: of
    all units, as the stages count them; tasks of one stage may overlap.
    """

    units: int
    whole: float
    start: float
    model: float
    predicting: float
    peak_bytes: int
    load: float = 0.0
    predict: float = 0.0
    write: float = 0.0


class Engine:
    """The engine in this process, on as many units as a replica gives it at once."""

    def __init__(self, folder: Path, *, dtype: str, device: str, batch: int, seed: int) -> None:
        self.model = PerceiverIO.from_pretrained(str(folder), device=device, dtype=getattr(torch, dtype))
        inputs, self.points = sample_unit(self.model.config, self.model.model_class, batch, seed)
        self.inputs, self.batch, self.device = to_device(inputs, device, self.model.dtype), batch, device
        self._predict()  # what does not depend on the input is computed once

    def units_per_second(self, units: int) -> float:
        """Encoded and decoded, whole batches of them."""
        batches = max(1, round(units / self.batch))
        began = self._now()
        for _ in range(batches):
            self._predict()
        return batches * self.batch / (self._now() - began)

    def _predict(self) -> None:
        engine_predict(self.model, self.inputs, points=self.points)

    def _now(self) -> float:
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()


def pipeline_turn(options: RunOptions, notes: Path) -> Turn:
    """A whole run, as `pipeline.runtime.driver.run.execute` does it, but for a model that notes when it is loaded."""
    called = time.time()
    with watched(notes) as seen, prepare_run(options) as ready:
        driver = Driver(_watched(ready, notes), Console(file=io.StringIO()))
        driver.resume()
        driver.work()
        summary = driver.finish(time.time() - called)
    ended = time.time()
    last = max(receipt.received_at for receipt in driver.ledger.by_shard.values())
    seconds = json.loads(ready.output.read(MANIFEST))["seconds"]
    return Turn(
        units=summary.rows,
        whole=ended - called,
        start=seen.began - called,
        model=seen.ready - seen.began,
        predicting=last - seen.ready,
        peak_bytes=seen.peak_bytes,
        **seconds,
    )


def _watched(ready: PreparedRun, notes: Path) -> PreparedRun:
    model = Watched(**vars(ready.stages.model), notes=str(notes))
    return replace(ready, stages=replace(ready.stages, model=model))


def plain_turn(write: Callable[[], object], output: Path, notes: Path, *, passes: float = 1.0) -> Turn:
    """A plain script, which `write` runs. passes: how often over it would have to predict to do all of the work; only
    predicting is multiplied, not what goes on beside it."""
    called = time.time()
    with watched(notes) as seen:
        write()
    ended = time.time()
    files = list(output.rglob("*.parquet"))
    # The last file, not the call's return: ending its actors is none of the script's work.
    last = max(file.stat().st_mtime for file in files)
    predict = sum(seen.predicted)
    missing = (passes - 1) * predict
    return Turn(
        units=sum(pq.read_metadata(file).num_rows for file in files),
        whole=ended - called + missing,
        start=seen.began - called,
        model=seen.ready - seen.began,
        predicting=last - seen.ready + missing,
        peak_bytes=seen.peak_bytes,
        predict=predict + missing,
    )


def passes_left_out(config: Any, chunks: int | None) -> float:
    """All of a clip's passes over those that are asked for."""
    of = transformers_model.num_chunks(config)
    return of / min(chunks or of, of)


def replica_threads() -> int:
    """Of torch, where the model has the cluster to itself: what one replica takes."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
