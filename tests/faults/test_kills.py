"""Kill processes in the middle of larger runs: every unit is predicted once, and committed shards are not repeated.

`test_crash_points.py` kills processes at each named fault point.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from ray import cloudpickle

from pipeline.runtime.driver import run
from pipeline.runtime.options import RunOptions
from pipeline.runtime.records.receipts import Receipt, read_receipts
from pipeline.runtime.records.run_file import read_run
from pipeline.storage import Store
from tests.faults.killed_runs import Points, execute, replicas, start, wait_for
from tests.faults.output_invariants import assert_complete, ids, parts, rows
from tests.faults.slow_heads import Slow

# Workers cannot import this file, so its classes are pickled by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def kill_after(options: RunOptions, points: Points, count: int) -> None:
    """Run until there are `count` more parts, kill the driver, and wait until its processes are gone."""
    before = len(parts(options))
    driver = start(options, points)
    wait_for(lambda: len(parts(options)) >= before + count, driver)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    points.clear(5)


def receipts_of(options: RunOptions) -> list[Receipt]:
    output = Store(options.output)
    return list(read_receipts(output, read_run(output).run).values())


def assert_resumed(options: RunOptions, known: dict, drivers: set[str], summary: run.Summary, units: int) -> None:
    """Assert that nothing was lost and no shard with a part was scheduled again."""
    assert summary.resumed >= len(known)
    assert {name: found for name, found in parts(options).items() if name in known} == known
    shards = {int(name.split("-")[-1].removesuffix(".parquet")) for name in known}
    receipts = receipts_of(options)
    scheduled = {receipt.shard for receipt in receipts if receipt.driver and receipt.driver not in drivers}
    assert scheduled, "the resume had something to do"
    assert not scheduled & shards
    assert len(ids(options)) == len(set(ids(options))) == summary.rows == units


def drivers_of(options: RunOptions) -> set[str]:
    return {receipt.driver for receipt in receipts_of(options)}


@pytest.mark.slow
def test_killed_run_resumes_without_loss(options, write_images, tmp_path, cluster):
    write_images(Path(options.input), range(240), damaged=(3, 100))
    kill_after(options, Points(tmp_path / "points"), 10)
    known, drivers = parts(options), drivers_of(options)
    assert 10 <= len(known) < 120
    assert_resumed(options, known, drivers, execute(options), units=238)


def replicas_busy(receipts: list[Receipt]) -> float:
    """Return the mean number of replicas that computed while these shards were predicted."""
    started = min(each.received_at - each.seconds_write - each.seconds_predict for each in receipts)
    seconds = max(each.received_at for each in receipts) - started
    return sum(each.seconds_predict for each in receipts) / seconds


@pytest.mark.slow
def test_one_file_of_texts_occupies_two_replicas_and_its_resume_repeats_nothing(options, tmp_path, cluster):
    Path(options.input).mkdir()
    texts = [" ".join(f"word-{number % 97}-{at}" for at in range(40)) for number in range(2000)]
    pq.write_table(pa.table({"text": texts}), Path(options.input, "texts.parquet"))
    changes = {"task": "text-classification", "checkpoint": "demo", "shard_size": None}
    options = options.model_copy(update=changes)
    kill_after(options, Points(tmp_path / "points"), 3)
    known, drivers = parts(options), drivers_of(options)
    summary = execute(options)
    assert summary.shards >= 8
    assert_resumed(options, known, drivers, summary, units=2000)
    assert replicas_busy([each for each in receipts_of(options) if each.driver not in {"", *drivers}]) > 1.2


class ExitOnBlackImage(Slow):
    """The real head, but a black image exits the process, every time."""

    def encode(self, model, inputs):
        if any(not image.any() for image in inputs):
            os._exit(1)
        return self.head.encode(model, inputs)


@pytest.mark.slow
def test_killed_replica_loses_no_row(options, write_images, cluster, wrap_head):
    write_images(Path(options.input), range(60), damaged=(3,))
    wrap_head(Slow)
    killed: list[int] = []

    def kill() -> None:
        wait_for(lambda: len(parts(options)) >= 4)
        replica = next(replicas())
        killed.extend([replica.pid, len(parts(options))])
        os.kill(replica.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    summary = execute(options)
    thread.join()
    assert killed, "a replica was killed"
    assert killed[1] < 30, "in the middle"
    assert (summary.shards, summary.units, summary.quarantined) == (30, 60, 1)
    assert len(ids(options)) == len(set(ids(options))) == summary.rows == 59


def test_unit_that_always_crashes_its_process_is_quarantined_alone(options, write_images, cluster, wrap_head):
    write_images(Path(options.input), range(8))
    Image.new("RGB", (40, 40)).save(Path(options.input, "0005.png"))
    wrap_head(ExitOnBlackImage)
    assert execute(options.model_copy(update={"max_quarantine": 0.2})).quarantined == 1
    names = {path.name for path in Path(options.input).iterdir()}
    output = Store(options.output)
    assert_complete(output, names - {"0005.png"}, {"0005.png"})
    (unit,) = rows(output, "quarantine/")
    assert (unit["stage"], unit["error"]) == ("predict", "Crashed")
    assert unit["attempts"] >= 4, "twice in its shard's first pass, and twice apart"
    wait_for(lambda: not list(replicas()), seconds=60)  # also one that was restarting when its pass ended
