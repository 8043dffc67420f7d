"""One measurement each of: a whole run into an OUTPUT, a plain script."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import ray

from pipeline.benchmark.monitor import LoggedModelRef, ModelProcess, monitored
from pipeline.runtime.driver.display import Display
from pipeline.runtime.driver.prepare import prepare_run
from pipeline.runtime.driver.run import Driver
from pipeline.runtime.options import RunOptions
from pipeline.runtime.records.manifest import MANIFEST


@dataclass(frozen=True, kw_only=True)
class RunMeasurement:
    """One whole run. All values are seconds but `units` and `peak_bytes`, the memory of the process with the model.

    whole: from the call to the last file. start: until the model begins to load. model: loading it. predicting: from
    then to the last committed unit, which includes waits for units that were loaded before. load, predict, write: sums
    over all units as the stages count them; tasks of one stage may overlap.
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


def measure_run(options: RunOptions, log: Path) -> RunMeasurement:
    """Measure a whole run: the steps of `runtime.driver.run.execute`, with a model that logs its loading."""
    called = time.time()
    with monitored(log) as process, prepare_run(options) as ready:
        stages = ready.stages()
        model = LoggedModelRef(**vars(stages.replica["ref"]), log=str(log))
        logged = replace(stages, replica=stages.replica | {"ref": model})
        ready = replace(ready, stages=lambda: logged)
        driver = Driver(ready, Display(quiet=True))
        driver.resume()
        driver.work()
        summary = driver.finish(time.time() - called)
    ended = time.time()
    committed = max(receipt.received_at for receipt in driver.ledger.by_shard.values())
    stages = json.loads(ready.output.read(MANIFEST))["seconds"]
    return _measurement(process, called, ended, committed, units=summary.rows, **stages)


def measure_script(write: Callable[[], object], output: Path, log: Path, *, chunk_scale: float = 1.0) -> RunMeasurement:
    """Measure a plain script, which `write` runs.

    chunk_scale: all chunks of a clip over those that the script predicts. Only the time of predicting is scaled.
    """
    called = time.time()
    with monitored(log) as process:
        write()
    ended = time.time()
    files = list(output.rglob("*.parquet"))
    # Not the return of the call, which waits for the end of the script's actors.
    committed = max(file.stat().st_mtime for file in files)
    predict = sum(process.predict_seconds)
    missing = (chunk_scale - 1) * predict
    units = sum(pq.read_metadata(file).num_rows for file in files)
    return _measurement(process, called, ended + missing, committed + missing, units=units, predict=predict + missing)


def _measurement(
    process: ModelProcess, called: float, ended: float, committed: float, *, units: int, **stages: float
) -> RunMeasurement:
    return RunMeasurement(
        units=units,
        whole=ended - called,
        start=process.began - called,
        model=process.ready - process.began,
        predicting=committed - process.ready,
        peak_bytes=process.peak_bytes,
        **stages,
    )


def replica_threads() -> int:
    """Return the number of torch threads of a replica that has the cluster to itself."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
