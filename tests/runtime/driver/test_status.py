"""Progress of a run, read from OUTPUT alone."""

import json
import os
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.heads import HeadOptions, head_for
from pipeline.runtime.driver.status import status
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.runtime.records.drivers import DRIVERS, put_marker
from pipeline.runtime.records.receipts import Ledger, receipt_of
from pipeline.runtime.records.run_file import new_run
from pipeline.sinks.ownership import RUN_FILE
from pipeline.sinks.parts import Footer, Quarantined, commit
from pipeline.sinks.schema import output_schema
from pipeline.sources import IMAGES, discover
from pipeline.storage import Store


@pytest.fixture
def output(tmp_path, image_folder, checkpoint) -> Store:
    """A run of 15 shards whose driver recorded two and was killed after a third."""
    store = Store(str(tmp_path / "out"))
    options = RunOptions(
        task="image-classification", input=str(image_folder), output=store.uri, checkpoint=str(checkpoint)
    )
    head = head_for(options.task, checkpoint, HeadOptions())
    run = new_run(options, input_uri=str(image_folder), head=head, digest="d", dtype="float32")
    store.put(RUN_FILE, run.to_json())
    freeze_plan(store, IMAGES, lambda: discover(str(image_folder), IMAGES), ShardSizing(unit_bytes=1, shard_size=4))
    ledger = Ledger(output=store)
    for shard in range(3):
        bad = tuple(Quarantined(id=f"{n}", uri="", stage="load", error="E", message="", attempts=1) for n in range(4))
        footer = Footer(
            run=run.run, shard=shard, segment=0, plan="", rows=0, quarantined=bad, seconds={"predict": 0.05}
        )
        committed = commit(store, output_schema(head.columns).empty_table(), footer)
        if shard < 2:
            ledger.add(receipt_of(footer, size=committed.size), scheduled=True)
            time.sleep(0.05)
    ledger.flush()
    return store


def test_status_of_an_unfinished_run(output, image_folder):
    before = sorted(output.keys())
    known = status(output)
    assert (known.shards_done, known.plan.shards, len(known.plan.segments)) == (3, 15, 1)
    assert (known.rows, known.quarantined, known.plan.units) == (0, 12, 60)
    assert known.bytes == sum(output.size(key) for key in output.keys("predictions/"))
    assert (known.run.fingerprint["head"], known.run.input) == ("image-classification", str(image_folder))
    assert not known.finished
    assert 0 < known.units_per_second <= 8 / (0.05 + 0.05), "from the beginning of the first shard"
    assert known.seconds_left == pytest.approx(48 / known.units_per_second)
    assert known.listed is None, "an earlier version planned it"
    assert sorted(output.keys()) == before, "reading the status changes nothing"


def test_status_before_the_first_part_and_without_a_run(output, tmp_path):
    for key in [*output.keys("predictions/"), *output.keys("_run/receipts/")]:
        output.delete(key)
    known = status(output)
    assert (known.shards_done, known.units_per_second, known.seconds_left) == (0, None, None)
    with pytest.raises(UsageError, match="elsewhere is not the OUTPUT of a run"):
        status(Store(str(tmp_path / "elsewhere")))


def test_status_says_whether_a_driver_is_at_work_as_far_as_it_is_known(output):
    run = status(output).run.run
    assert status(output).activity().startswith("nothing runs; the latest shard was recorded 0")
    put_marker(output, f"{DRIVERS}own.json", run)
    known = status(output)
    assert known.is_running
    assert known.activity().startswith(f"running, in process {os.getpid()} of this machine")
    marker = json.loads(output.read(f"{DRIVERS}own.json"))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    output.put(f"{DRIVERS}own.json", json.dumps(marker | {"pid": ended.pid}).encode())
    assert status(output).activity().startswith(f"nothing runs: process {ended.pid} of this machine was killed")
    output.put(f"{DRIVERS}own.json", json.dumps(marker | {"host": "node-7"}).encode())
    assert status(output).activity().startswith("running on node-7, or killed there: it began and did not say that")
    output.put(f"{DRIVERS}own.json", json.dumps({"run": run}).encode())
    assert status(output).activity().startswith("running elsewhere, or killed there"), "an earlier version wrote it"
    output.put(f"{DRIVERS}own.json", json.dumps(marker | {"run": "another"}).encode())
    assert status(output).activity().startswith("nothing runs;")


def test_status_of_a_run_that_was_stopped_prints_the_command_that_resumes_it(output, image_folder, checkpoint):
    result = CliRunner().invoke(app, ["status", output.uri], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "nothing runs; the latest shard was recorded" in result.output
    command = f"perceiver run image-classification {image_folder} {output.uri} --checkpoint {checkpoint}"
    assert result.output.splitlines()[-1] == f"next: the same command resumes the run: {command}"


def test_status_prints_in_one_line(output):
    printed = repr(status(output))
    assert printed.startswith(
        f"<Status of image-classification in {output.uri}: 0 rows, 12 quarantined, 3 of 15 shards"
    )
    assert len(printed) < 300 + len(output.uri)
