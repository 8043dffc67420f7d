"""Concurrent drivers, lost responses or a lost OUTPUT leave exactly one plan with all its files."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.runtime.plan import plan_files
from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.plan_files import read_plan_file, read_segments, segment_key
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.sinks.ownership import RUN_FILE, OutputLost
from pipeline.sources import IMAGES, discover
from pipeline.storage import StorageError, Store, retry

DRIVERS = 4


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.jpg").write_text(f"{number}")
    return folder


def planned(inputs: Path, output: Store, run: str | None = None) -> Plan:
    return freeze_plan(
        output, IMAGES, lambda: discover(str(inputs), IMAGES), ShardSizing(unit_bytes=1, shard_size=2), run=run
    )


def assert_complete(output: Store, plan: Plan) -> None:
    """Check that OUTPUT has every plan file of its segments, and no other."""
    assert plan.segments == read_segments(output)
    rows = [row for file in plan.files for row in read_plan_file(output, file.name, file.sha256).to_pylist()]
    assert [piece["key"] for row in rows for piece in row["pieces"]] == [f"{number}.jpg" for number in range(6)]
    assert {key for key in output.keys("_run/plan/") if key.endswith(".parquet")} == {file.name for file in plan.files}


def test_concurrent_drivers_agree_on_one_plan_even_if_responses_are_lost(inputs, faulty_s3, s3, monkeypatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)
    uris, start = [s3.bucket("plans") for _ in range(4)], threading.Barrier(DRIVERS, timeout=60)
    proxy = faulty_s3(rate=0.3, seed=5, kinds=("lost", "lost", 500, "reset"))
    stores = [Store(uri) for uri in uris]

    def drive(_: int) -> list[Plan]:
        plans = []
        for store in stores:
            start.wait()
            plans.append(planned(inputs, store))
        return plans

    with ThreadPoolExecutor(DRIVERS) as threads:
        plans = list(threads.map(drive, range(DRIVERS)))
    for place, store in enumerate(stores):
        assert all(plan[place].segments == plans[0][place].segments for plan in plans)
        assert_complete(store, plans[0][place])
    assert proxy.counts["lost"] > 10


def test_segment_of_a_lost_acknowledgement_keeps_its_plan_files(inputs, tmp_path, monkeypatch) -> None:
    """The store reports a conflict that this driver itself caused."""
    put_if_absent = Store.put_if_absent

    def forgets(store: Store, key: str, data: bytes) -> bool:
        created = put_if_absent(store, key, data)
        return created and key != segment_key(0)

    monkeypatch.setattr(Store, "put_if_absent", forgets)
    output = Store(str(tmp_path / "out"))
    assert_complete(output, planned(inputs, output))


def test_failed_planning_deletes_nothing_and_the_next_driver_completes_it(inputs, tmp_path, monkeypatch) -> None:
    output, put_if_absent = Store(str(tmp_path / "out")), Store.put_if_absent

    def loses(store: Store, key: str, data: bytes) -> bool:
        put_if_absent(store, key, data)
        if key == segment_key(0):
            raise StorageError("503", transient=True)
        return True

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_if_absent", loses)
        with pytest.raises(StorageError, match="503"):
            planned(inputs, output)
    assert_complete(output, planned(inputs, output))


def test_output_that_now_belongs_to_another_run_is_not_planned(inputs, tmp_path, monkeypatch) -> None:
    output, put_plan_file = Store(str(tmp_path / "out")), plan_files.put_plan_file
    output.put(RUN_FILE, json.dumps({"run": "aaaa0000"}).encode())

    def used_again(*given):
        """Replace OUTPUT while the plan files are written."""
        shutil.rmtree(output.uri)
        output.put(RUN_FILE, json.dumps({"run": "bbbb0000"}).encode())
        return put_plan_file(*given)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.runtime.plan.planner.put_plan_file", used_again)
        with pytest.raises(OutputLost, match="it belongs to run bbbb0000"):
            planned(inputs, output, run="aaaa0000")
    assert read_segments(output) == []
    assert planned(inputs, output, run="bbbb0000").units == 6
