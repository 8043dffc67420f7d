"""`Predictor` in a plain Ray Data pipeline against `perceiver run`: rows and rate on the same images and cluster.

    python -m pipeline.benchmark.predictor_pipeline --images 1000 --repeats 3

Prints the images per second of each, in alternating order, and whether the rows are equal. Both start their workers and
load the model; the model is small, so that reading and overhead count.
"""

import argparse
import io
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq
import ray.data
from rich.console import Console

from pipeline.predictor.predictor import Predictor
from pipeline.reference.published_configs import FOURIER, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.reference.sample_media import write_photos
from pipeline.runtime.driver.run import execute
from pipeline.runtime.options import RunOptions
from pipeline.runtime.ray_backend.connect import ray_connection

TASK, BATCH = "image-classification", 16


def run(images: Path, output: Path, checkpoint: Path) -> float:
    """Predict by a run and return its seconds, all of them."""
    options = {"input": str(images), "output": str(output), "checkpoint": str(checkpoint), "batch_size": BATCH}
    started = time.perf_counter()
    execute(RunOptions(task=TASK, report=False, shard_size=64, **options), console=Console(file=io.StringIO()))
    return time.perf_counter() - started


def pipeline(images: Path, output: Path, checkpoint: Path) -> float:
    """Predict by a Ray Data pipeline with one `Predictor` and return its seconds, all of them."""
    started = time.perf_counter()
    files = ray.data.read_binary_files(str(images), include_paths=True)
    predicted = files.map_batches(
        Predictor,
        fn_constructor_args=(TASK,),
        fn_constructor_kwargs={"checkpoint": str(checkpoint), "batch_size": BATCH, "threads": os.cpu_count()},
        compute=ray.data.ActorPoolStrategy(size=1),
        batch_size=64,
        batch_format="pyarrow",
    )
    predicted.drop_columns(["bytes"]).write_parquet(str(output))
    return time.perf_counter() - started


def same_rows(run_output: Path, pipeline_output: Path) -> bool:
    """Return whether both have the same labels, and scores but for rounding, for the same files."""
    ours = pq.read_table(run_output / "predictions").to_pylist()
    theirs = {Path(row["path"]).name: row for row in pq.read_table(pipeline_output).to_pylist()}
    pairs = [(row, theirs.pop(row["id"])) for row in ours]
    return not theirs and all(
        row["label"] == other["label"] and abs(row["score"] - other["score"]) < 1e-5 for row, other in pairs
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Compare Predictor in a Ray Data pipeline with perceiver run.")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    rates: dict[str, list[float]] = {"run": [], "pipeline": []}
    with tempfile.TemporaryDirectory() as folder, ray_connection("local"):
        place = Path(folder)
        write_photos(place / "in", given.images)
        checkpoint = make_checkpoint(FOURIER, small(FOURIER), place / "model")
        for number in range(given.repeats):
            contenders = [("run", run), ("pipeline", pipeline)]
            for name, measure in contenders if number % 2 == 0 else reversed(contenders):
                rates[name].append(given.images / measure(place / "in", place / f"{name}-{number}", checkpoint))
                print(f"{name}: {rates[name][-1]:.1f} images/s", flush=True)
            print(f"rows equal: {same_rows(place / f'run-{number}', place / f'pipeline-{number}')}", flush=True)
    run_rate, pipeline_rate = median(rates["run"]), median(rates["pipeline"])
    print(f"medians: run {run_rate:.1f}, pipeline {pipeline_rate:.1f} images/s, ratio {pipeline_rate / run_rate:.2f}")


if __name__ == "__main__":
    main()
