"""Measure what a large run takes: `python -m tests.faults.scale plan`, `… again`, `… resume` and `… run`, minutes each.

plan: freeze the plan of a million images in a bucket, including checks and the start of Ray. With `--local` they are
files on disk, with `--flat` all in one folder.
again: run the command again over a million images in a bucket that are all predicted, so that nothing is new.
resume: resume a killed run of 100,000 shards, of which half have parts and nearly all of those receipts, until a
replica gets its first shard. All three print seconds and the peak memory of the driver in MB as a line of JSON.
run: predict ten thousand images with a small model. Prints the private memory of driver, raylet and replica in MB after
each quarter of the run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.reference.published_configs import FOURIER, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.driver.prepare import PreparedRun, prepare_run
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.plan_files import PlanFile, read_plan_file
from pipeline.runtime.records.receipts import Ledger, receipt_of
from pipeline.sinks.parts import Footer, encode_part, part_key
from pipeline.sinks.schema import output_schema
from tests.faults.killed_runs import Points, wait_for
from tests.faults.memory import Watch
from tests.faults.million_objects import FOLDER, key_of
from tests.faults.object_store_servers import listing_server

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "scale", "AWS_SECRET_ACCESS_KEY": "scale", "AWS_DEFAULT_REGION": "us-east-1"}
DIFFERENT = 100  # images on disk, each with many hard links (at most 65,000)
FLUSH = 150  # receipts written at once, at five shards per second
WITHOUT_RECEIPT = 300  # shards with a part, but no receipt
MEASURED = """
from pathlib import Path
from jobs.cli_support import app
from jobs.run import command
try:
    app(command)()
finally:
    print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""  # `perceiver run`, which prints its peak memory in kB at last
LEAVING = 120.0  # seconds until a driver must exit after SIGTERM


def write_images(folder: Path, count: int, *, flat: bool = False) -> None:
    """Write files under the keys of the bucket, or all of them in one folder."""
    originals = [folder.with_name(f"image{number}") for number in range(DIFFERENT)]
    for number, original in enumerate(originals):
        Image.new("RGB", (64, 64), (2 * number, 128, 128)).save(original, "JPEG")
    for number in range(count):
        path = folder / (f"IMG_{number:09d}.jpg" if flat else key_of(number))
        if number % FOLDER == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        os.link(originals[number % DIFFERENT], path)


def peak(pid: int) -> float:
    """Return the peak resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1)


def plan(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Plan this many objects in a separate process."""
    if arguments.local or arguments.flat:
        write_images(folder / "in", arguments.objects, flat=arguments.flat)
        return _planned(folder, str(folder / "in"), {})
    with listing_server(arguments.objects) as endpoint:
        return _planned(folder, "s3://images", CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint})


def _planned(folder: Path, uri: str, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.faults.planning_memory", str(folder), uri]
    began = time.monotonic()
    with subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE) as driver:
        measured = json.loads(driver.stdout.readline())
        return {"seconds": round(time.monotonic() - began, 1), **measured}


def again(folder: Path, objects: int) -> dict[str, Any]:
    """Plan this many objects, write all parts, and run the command with nothing new."""
    with listing_server(objects) as endpoint:
        os.environ.update(CREDENTIALS, AWS_ENDPOINT_URL=endpoint)
        model, output = str(folder / "model"), str(folder / "out")
        options = RunOptions(
            task="image-classification", input="s3://images", output=output, checkpoint=model, address="local"
        )
        with prepare_run(options) as ready:
            leave_parts(ready, folder / "out", every=1)
        command = [sys.executable, "-c", MEASURED, options.task, options.input, output, "--checkpoint", model]
        began = time.monotonic()
        ended = subprocess.run([*command, "--no-report"], stdout=subprocess.PIPE, text=True, check=False)
        seconds, lines = round(time.monotonic() - began, 1), ended.stdout.splitlines()
    measured = {"exit_code": ended.returncode, "seconds": seconds, "peak_mb": round(int(lines[-1]) / 1024, 1)}
    return measured | {"shards": ready.plan.shards, "printed": lines[:1]}


def resume(folder: Path, shards: int) -> dict[str, Any]:
    """Prepare a half-finished run of this many shards, and resume it until a replica has a shard."""
    write_images(folder / "in", shards)
    options = RunOptions(
        task="image-classification",
        input=str(folder / "in"),
        output=str(folder / "out"),
        checkpoint=str(folder / "model"),
        shard_size=1,
        address="local",
    )
    with prepare_run(options) as ready:
        leave_parts(ready, folder / "out", every=2, without_receipt=WITHOUT_RECEIPT)
    points = Points(folder / "points")
    points.arm("predict.begin", action="stop")
    command = [sys.executable, "-m", "jobs.run", options.task, options.input, options.output, "--shard-size", "1"]
    command += ["--checkpoint", options.checkpoint, "--address", "local", "--no-report"]
    began = time.monotonic()
    with (folder / "stderr").open("wb") as stderr:
        driver = subprocess.Popen(command, env=os.environ | points.environment, stderr=stderr)
    try:
        wait_for(lambda: bool(points.taken("predict.begin")), driver)
        measured = {"seconds": round(time.monotonic() - began, 1), "peak_mb": peak(driver.pid)}
    finally:
        driver.terminate()
        driver.wait(LEAVING)
        points.clear()
    return measured | {"stderr": Path(folder, "stderr").read_text().splitlines()[:1]}


def run(folder: Path, units: int) -> dict[str, Any]:
    """Predict this many images and measure the memory of each process."""
    write_images(folder / "in", units)
    command = [sys.executable, "-m", "jobs.run", "image-classification", str(folder / "in"), str(folder / "out")]
    command += ["--checkpoint", str(folder / "model"), "--address", "local", "--shard-size", "20"]
    began = time.monotonic()
    with subprocess.Popen(command) as driver, Watch(lambda: driver) as watch:
        code = driver.wait()
    seconds = round(time.monotonic() - began, 1)
    rows = pq.ParquetDataset(folder / "out/predictions").read(["id"]).num_rows
    memory = {life.kind: life.quarters("own") for life in watch.lives}
    return {"exit_code": code, "rows": rows, "seconds": seconds, "own_mb": memory}


def leave_parts(ready: PreparedRun, output: Path, *, every: int, without_receipt: int = 0) -> None:
    """Write parts of every so many shards with the units of their plan file, and receipts of all but the last ones."""
    ledger = Ledger(output=ready.output)
    schema = output_schema(ready.stages().writer.columns, ready.stages().writer.kept)
    done = list(_planned_units(ready))[::every]
    (output / "predictions").mkdir()
    for number, (file, shard, units) in enumerate(done):
        made = {"run": ready.run.run, "shard": shard, "segment": 0, "plan": file.sha256, "rows": units}
        footer = Footer(**made, quarantined=(), seconds={})
        part = encode_part(pa.table({field.name: pa.nulls(units, field.type) for field in schema}, schema), footer)
        (output / part_key(ready.run.run, shard)).write_bytes(part)
        if number < len(done) - without_receipt:
            stamp = ready.output.stamp(part_key(ready.run.run, shard))
            ledger.add(receipt_of(footer, size=len(part), stamp=stamp), scheduled=True)
            if number % FLUSH == FLUSH - 1:
                ledger.flush()
    ledger.flush()


def _planned_units(ready: PreparedRun) -> Iterator[tuple[PlanFile, int, int]]:
    """Yield plan file, number and units of every shard."""
    for file in ready.plan.files:
        for row in read_plan_file(ready.output, file.name, file.sha256, ["shard", "units"]).to_pylist():
            yield file, row["shard"], row["units"]


def main() -> None:
    """Run one of the measurements in a temporary folder."""
    parser = argparse.ArgumentParser(description="What a large run takes.")
    parser.add_argument("what", choices=["plan", "again", "resume", "run"])
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--local", action="store_true", help="plan files on disk")
    parser.add_argument("--flat", action="store_true", help="put all files into one folder")
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--units", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        make_checkpoint(FOURIER, small(FOURIER), folder / "model")
        measured = {
            "plan": lambda: plan(folder, arguments),
            "again": lambda: again(folder, arguments.objects),
            "resume": lambda: resume(folder, arguments.shards),
            "run": lambda: run(folder, arguments.units),
        }[arguments.what]()
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
