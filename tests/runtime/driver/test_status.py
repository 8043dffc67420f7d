"""Progress of a run, read from OUTPUT alone."""

import time

import pytest

from pipeline.heads import HeadOptions, head_for
from pipeline.runtime.driver.status import status
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
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
        _, _, size = commit(store, output_schema(head.columns).empty_table(), footer)
        if shard < 2:
            ledger.add(receipt_of(footer, size=size), scheduled=True)
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
