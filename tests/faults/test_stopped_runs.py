"""Runs stopped by a signal and runs that stall: both exit with a message, and the same command resumes them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import ray
from ray import cloudpickle

from pipeline.faultpoints import VARIABLE
from pipeline.runtime.errors import RunFailed
from pipeline.runtime.options import RunOptions
from pipeline.runtime.records.receipts import read_receipts
from pipeline.runtime.records.run_file import read_run
from pipeline.storage import Store
from tests.faults.killed_runs import execute, replicas, start, wait_for
from tests.faults.output_invariants import ids, parts
from tests.faults.slow_heads import Slow

# Workers cannot import this file, so its classes are pickled by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

GRACE = 20  # seconds until a stopped run must have exited


def started(options: RunOptions, points: Path, address: str = "local") -> subprocess.Popen[str]:
    """Start `perceiver run` as a user does, with its own Ray cluster unless there is an address of another."""
    flags = ["--checkpoint", options.checkpoint, "--shard-size", "2", "--replicas", "2", "--address", address]
    command = [sys.executable, "-m", "jobs.run", options.task, options.input, options.output, *flags]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | {VARIABLE: str(points)}, **streams)


def stop_with(driver: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal, assert that the driver exits with 1 in time, and return its standard error."""
    driver.send_signal(number)
    _, printed = driver.communicate(timeout=GRACE)
    assert driver.returncode == 1
    return " ".join(printed.split())


@pytest.mark.parametrize("has_own_cluster", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_sigterm_saves_receipts_and_names_the_resume_command(
    options, write_images, tmp_path, cluster, described_cluster, has_own_cluster
):
    write_images(Path(options.input), range(60), damaged=(3,))
    address = "local" if has_own_cluster else ray.get_runtime_context().gcs_address
    driver = started(options, tmp_path / "points", address)
    wait_for(lambda: len(parts(options)) >= 5, driver)
    printed = stop_with(driver, signal.SIGTERM)
    remaining = re.search(r"stopped by SIGTERM; the same command resumes the run; (\d+) of 30 shards are left", printed)
    assert remaining is not None, printed
    assert "Traceback" not in printed
    output = Store(options.output)
    receipts = read_receipts(output, read_run(output).run)
    assert len(receipts) >= 1, "receipts are written"
    assert int(remaining[1]) == 30 - len(receipts) > 0
    known = parts(options)
    time.sleep(2)
    assert parts(options) == known, "no worker continues"
    assert execute(options).rows == 59
    assert {name: found for name, found in parts(options).items() if name in known} == known


@pytest.mark.slow
def test_ctrl_c_while_planning_exits_at_once(options, write_images, tmp_path, backend):
    write_images(Path(options.input), range(8))
    points = tmp_path / "points"
    points.mkdir()
    (points / "plan.segment-before").write_text("stop")
    driver = started(options, points)
    wait_for(lambda: any(path.name != "plan.segment-before" for path in points.iterdir()), driver)
    printed = stop_with(driver, signal.SIGINT)
    assert "stopped by SIGINT; the same command resumes the run" in printed
    assert "Traceback" not in printed
    assert len(ids(options)) == 0
    assert execute(options).rows == 8


class Stuck(Slow):
    """The real head, but encoding never returns."""

    def encode(self, *_):
        time.sleep(10_000)


def test_stalled_run_fails_and_names_the_work_of_each_stage(options, write_images, cluster, wrap_head):
    write_images(Path(options.input), range(8))
    wrap_head(Stuck)
    with pytest.raises(RunFailed) as failed:
        execute(options.model_copy(update={"stall_timeout": 4.0, "replicas": 1}))
    printed = str(failed.value)
    assert "no stage produced output for 4 s (stall_timeout)" in printed
    assert "predict had" in printed
    assert "of 2 CPUs of the cluster are free; 4 of 4 shards are left; the same command resumes the run" in printed
    wait_for(lambda: not list(replicas()), seconds=20)
    wrap_head(Slow)
    assert execute(options).rows == 8


@pytest.mark.slow
def test_killed_driver_takes_its_cluster_along_and_the_next_run_deletes_its_files(job, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # with a short path
        monkeypatch.setenv("RAY_TMPDIR", folder)
        images = job(24, ())
        images.points.arm("write.begin", action="stop")
        driver = start(images.options, images.points)
        images.points.stopped("write.begin", driver)
        left = list(Path(folder).iterdir())
        assert len(left) == 1
        assert len(images.points.processes()) > 3
        driver.kill()
        driver.communicate()
        wait_for(lambda: not images.points.processes(), seconds=30)
        assert list(Path(folder).iterdir()) == left
        images.points.release("write.begin")
        images.finishes()
        assert list(Path(folder).iterdir()) == []
