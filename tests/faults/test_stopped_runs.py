"""Runs that are asked to stop, and runs that get nowhere: both end in words, and the same command goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray import cloudpickle

from pipeline.faultpoints import VARIABLE
from pipeline.runtime import RunFailed, RunOptions
from pipeline.runtime.records.receipts import read_receipts
from pipeline.runtime.records.run_file import read_run
from pipeline.storage import Store
from tests.faults.killed_runs import execute, replicas, wait_for
from tests.faults.slow_heads import Slow
from tests.faults.whole_output import ids, parts

# Workers cannot import this file: what it defines travels with the task.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

GRACE = 20  # seconds in which a run has left


def started(options: RunOptions, points: Path) -> subprocess.Popen[str]:
    """`perceiver run` with a Ray cluster of its own, as a user starts it."""
    flags = ["--checkpoint", options.checkpoint, "--shard-size", "2", "--replicas", "2", "--address", "local"]
    command = [sys.executable, "-m", "jobs.run", options.task, options.input, options.output, *flags]
    told = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | {VARIABLE: str(points)}, **told)


def left(driver: subprocess.Popen[str], number: signal.Signals) -> str:
    """What the driver says on leaving after a signal; it exits with 1, in time."""
    driver.send_signal(number)
    _, said = driver.communicate(timeout=GRACE)
    assert driver.returncode == 1
    return " ".join(said.split())


def test_a_run_that_is_stopped_writes_its_state_says_how_to_go_on_and_leaves(options, write_images, tmp_path, cluster):
    write_images(Path(options.input), range(60), damaged=(3,))
    driver = started(options, tmp_path / "points")
    wait_for(lambda: len(parts(options)) >= 5, driver)
    said = left(driver, signal.SIGTERM)
    left_over = re.search(r"stopped by SIGTERM; the same command resumes the run; (\d+) of 30 shards are left", said)
    assert left_over is not None, said
    assert "Traceback" not in said
    output = Store(options.output)
    heard = read_receipts(output, read_run(output).run)
    assert len(heard) >= 1, "what was heard is written down"
    assert int(left_over[1]) == 30 - len(heard) > 0
    known = parts(options)
    time.sleep(2)
    assert parts(options) == known, "nobody goes on with it"
    assert execute(options).rows == 59
    assert {name: found for name, found in parts(options).items() if name in known} == known


def test_ctrl_c_while_planning_leaves_at_once(options, write_images, tmp_path, cluster):
    write_images(Path(options.input), range(8))
    points = tmp_path / "points"
    points.mkdir()
    (points / "plan.segment-before").write_text("stop")
    driver = started(options, points)
    wait_for(lambda: any(path.name != "plan.segment-before" for path in points.iterdir()), driver)
    said = left(driver, signal.SIGINT)
    assert "stopped by SIGINT; the same command resumes the run" in said
    assert "Traceback" not in said
    assert len(ids(options)) == 0
    assert execute(options).rows == 8


class Stuck(Slow):
    """The real head, which never comes back."""

    def encode(self, *_):
        time.sleep(10_000)


def test_a_run_that_gets_nowhere_fails_and_says_what_each_stage_was_at(options, write_images, cluster, wrap_head):
    write_images(Path(options.input), range(8))
    wrap_head(Stuck)
    with pytest.raises(RunFailed) as failed:
        execute(options.model_copy(update={"stall_timeout": 4.0, "replicas": 1}))
    said = str(failed.value)
    assert "no shard came out of any stage for 4 s (stall_timeout)" in said
    assert "predict had" in said
    assert "of 2 CPUs of the cluster are free; 4 of 4 shards are left; the same command resumes the run" in said
    wait_for(lambda: not list(replicas()), seconds=20)
    wrap_head(Slow)
    assert execute(options).rows == 8
