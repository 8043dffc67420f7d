"""How fast a run was and what limits it, from its receipts."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.report.speed import measure_speed
from pipeline.runtime.records.receipts import Receipt


def receipts(count: int, *, load: float, predict: float, seconds: float, driver: str = "a", begin: float = 0.0) -> list:
    """Return receipts of shards of 10 units, one every `seconds`."""
    shared = {"segment": 0, "rows": 9, "quarantined": 1, "bytes": 1, "seconds_write": 0.1, "driver": driver}
    return [
        Receipt(
            shard=number, seconds_load=load, seconds_predict=predict, received_at=begin + seconds * number, **shared
        )
        for number in range(count)
    ]


def test_a_busy_replica_is_the_bottleneck_although_loading_takes_longer_in_all() -> None:
    speed = measure_speed(receipts(21, load=5.0, predict=1.8, seconds=2.0), {"replicas": 1}, "float32")
    assert speed is not None
    assert speed.bottleneck == "predict"
    assert "the replica was busy 90% of the time" in speed.sentence
    assert speed.units_per_second == pytest.approx(5.0)
    assert speed.shares["load"] > speed.shares["predict"]


def test_an_idle_replica_waits_for_load() -> None:
    speed = measure_speed(receipts(21, load=5.0, predict=1.0, seconds=2.0), {"replicas": 2}, "bfloat16")
    assert speed is not None
    assert speed.bottleneck == "load"
    assert "2 replicas were busy only 25% of the time" in speed.sentence


def test_an_unknown_number_of_gpus_is_said() -> None:
    speed = measure_speed(receipts(21, load=5.0, predict=5.0, seconds=2.0), {"replicas": "auto"}, "bfloat16")
    assert speed is not None
    assert "On average 2.5 replicas were predicting" in speed.sentence


def test_time_between_two_drivers_does_not_count() -> None:
    first = receipts(11, load=1.0, predict=1.9, seconds=2.0)
    second = receipts(11, load=1.0, predict=1.9, seconds=2.0, driver="b", begin=1e6)
    speed = measure_speed([*second, *first], {}, "float32")
    assert speed is not None
    assert speed.wall_seconds == pytest.approx(40.0)
    assert speed.drivers == 2
    assert speed.graph is not None
    edges, rates = speed.graph
    assert edges[-1] == pytest.approx(40.0)
    assert float((rates * np.diff(edges)).sum()) == pytest.approx(200.0)


def test_few_parts_give_no_graph_and_no_verdict() -> None:
    speed = measure_speed(receipts(2, load=1.0, predict=3.0, seconds=2.0), {}, "float32")
    assert speed is not None
    assert speed.graph is None
    assert "this does not tell what limits a longer run" in speed.sentence
    assert measure_speed([], {}, "float32") is None
