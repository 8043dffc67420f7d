"""What a run would take, from a few units that were tried."""

import pytest

from pipeline.runtime.estimate import estimate
from pipeline.runtime.options import RunOptions
from pipeline.storage import Store


def test_an_estimate_freezes_the_plan_and_predicts_nothing_for_good(pictures, checkpoint, tmp_path, cluster):
    options = RunOptions(
        task="image-classification",
        input=str(pictures),
        output=str(tmp_path / "out"),
        checkpoint=str(checkpoint),
        shard_size=8,
        batch_size=4,
        replicas=2,
    )
    known = estimate(options)
    output = Store(options.output)
    assert (known.units, known.shards, known.segments, known.shards_done) == (60, 8, 1, 0)
    assert (known.device, known.dtype, known.replicas) == ("cpu", "float32", 2)
    assert known.sample == 16, "four micro-batches"
    assert known.sample_quarantined == 1, "the sample is from the middle of the plan, 32 to 47, of which 42 is damaged"
    assert 0 < known.load_seconds < 5
    assert 0 < known.predict_seconds < 5
    slowest = max(known.load_seconds / 2, known.predict_seconds / 2)
    assert known.seconds == pytest.approx(60 * slowest)
    assert 60 * 20 < known.bytes < 60 * 5000
    assert list(output.names("predictions/")) == []
    assert len(list(output.names("_run/plan/"))) == 2
