"""The counts of a run while it works, in words and as JSON."""

import time

import pytest

from pipeline.runtime.driver.progress import Counts
from pipeline.runtime.records.receipts import Receipt


def receipt(**fields: object) -> Receipt:
    values = {"shard": 0, "segment": 0, "rows": 10, "quarantined": 0, "bytes": 1}
    return Receipt(**values | {"seconds_load": 1.0, "seconds_predict": 8.0, "seconds_write": 1.0} | fields)


def working(seconds: float, **fields: object) -> Counts:
    """Return counts of a driver that began to work some seconds ago."""
    counts = Counts(**fields)
    counts.start()
    counts.started_at = time.monotonic() - seconds
    return counts


def test_rate_and_time_left_count_this_driver_only() -> None:
    counts = working(10, shards=10, units=1000, shards_done=4, rows=390, quarantined=10)
    assert counts.seconds_left is None
    counts.shards_done, counts.rows = 6, 590
    assert (
        counts.line()
        == "6 of 10 shards, 590 rows, 10 quarantined, 20.0 units/s, 20 s left; loading the model, then the first shard"
    )


def test_time_left_is_estimated_by_shards_if_units_are_unknown() -> None:
    counts = working(10, shards=10, units=None)
    counts.shards_done, counts.rows = 2, 5
    assert counts.seconds_left == pytest.approx(40, rel=0.01)


def test_busy_replicas_and_shares_of_the_stages_come_from_receipts() -> None:
    counts = working(10, shards=4, units=40, replicas=2)
    assert counts.replicas_busy is None
    counts.add(receipt())
    counts.add_seconds(receipt())
    assert counts.replicas_busy == pytest.approx(8 / 9, rel=0.01)
    assert counts.line().endswith("; 0.9 of 2 replicas busy; load 10%, predict 80%, write 10%")


def test_more_seconds_than_passed_are_not_more_than_all_replicas() -> None:
    counts = working(10, shards=4, units=40, replicas=2)
    for _ in range(9):
        counts.add_seconds(receipt(seconds_write=0.0))
    assert counts.replicas_busy == 2


def test_programs_read_the_same_counts() -> None:
    counts = working(10, shards=4, units=40, replicas=2)
    assert counts.as_json()["seconds_left"] is None
    counts.add(receipt(quarantined=2, rows=8))
    counts.add_seconds(receipt())
    found = counts.as_json()
    assert (found["shards"], found["shards_done"], found["rows"], found["quarantined"]) == (4, 1, 8, 2)
    assert found["stage_shares"] == {"load": 0.1, "predict": 0.8, "write": 0.1}
    assert found["units_per_second"] == pytest.approx(1.0, abs=0.01)
