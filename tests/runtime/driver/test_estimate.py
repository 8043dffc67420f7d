"""What a run would take, from a few units that were tried."""

import pytest

from pipeline.reference.published_configs import FLOW, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.driver.estimate import _sample_size, estimate
from pipeline.runtime.options import RunOptions
from pipeline.storage import Store
from tests.sample_videos import make_video


def test_estimate_freezes_the_plan_and_commits_no_prediction(image_folder, checkpoint, tmp_path, backend):
    options = RunOptions(
        task="image-classification",
        input=str(image_folder),
        output=str(tmp_path / "out"),
        checkpoint=str(checkpoint),
        shard_size=8,
        batch_size=4,
        replicas=2,
    )
    known = estimate(options)
    output = Store(options.output)
    assert (known.plan.units, known.plan.shards, len(known.plan.segments), known.shards_done) == (60, 8, 1, 0)
    assert (known.resources.device, known.resources.dtype, known.resources.replicas) == ("cpu", "float32", 2)
    assert known.sample.units == 16, "four micro-batches"
    assert known.sample.quarantined == 1, "the sample is from the middle of the plan, 32 to 47, of which 42 is damaged"
    assert 0 < known.sample.load_seconds < 5
    assert 0 < known.sample.predict_seconds < 5
    slowest = max(known.sample.load_seconds / 2, known.sample.predict_seconds / 2)
    assert known.seconds == pytest.approx(60 * slowest)
    assert 60 * 20 < known.bytes < 60 * 5000
    assert list(output.keys("predictions/")) == []
    assert len(list(output.keys("_run/plan/"))) == 2


def test_estimate_measures_slow_units_one_by_one_and_fast_ones_in_micro_batches():
    assert [_sample_size(each, 32) for each in (0.001, 1.0, 29.0, 200.0)] == [32, 30, 1, 1]


def test_estimate_of_containers_uses_their_guessed_unit_counts(tmp_path, backend):
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in/video.mp4", seconds=4, size=(20, 14))
    folder = make_checkpoint(FLOW, small(FLOW), tmp_path / "model")
    values = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "checkpoint": str(folder)}
    known = estimate(RunOptions(task="optical-flow", batch_size=2, **values))
    assert known.plan.units is None
    assert 95 <= known.plan.estimated_units <= 100
    assert (known.sample.units, known.sample.quarantined) == (8, 0)
    assert known.seconds is not None
    assert known.bytes > 95 * 20 * 14
