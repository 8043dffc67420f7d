"""What a run would take, from a few units that were tried."""

import io

import pytest
from rich.console import Console

from pipeline.reference.published_configs import FLOW, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime import UsageError
from pipeline.runtime.driver.estimate import _sample_size, estimate
from pipeline.runtime.driver.run import execute
from pipeline.runtime.options import RunOptions
from pipeline.storage import Store
from tests.sample_videos import make_video


def test_estimate_freezes_the_plan_and_commits_no_prediction(image_folder, checkpoint, tmp_path, cluster):
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


def test_run_with_other_options_replaces_a_plan_without_predictions(image_folder, checkpoint, tmp_path, cluster):
    places = {"input": str(image_folder), "output": str(tmp_path / "out"), "checkpoint": str(checkpoint)}
    planned = RunOptions(task="image-classification", max_quarantine=1, **places)
    estimate(planned.model_copy(update={"limit": 8}))
    printed = io.StringIO()
    summary = execute(planned.model_copy(update={"top_k": 3}), console=Console(file=printed, width=300))
    assert (summary.units, summary.segments) == (60, 1)
    assert (
        "replaced a plan without predictions, of a run with other settings: options.top_k was 5" in printed.getvalue()
    )
    with pytest.raises(UsageError, match=r"contains predictions of .* options.top_k was 3, this run has 5"):
        estimate(planned)
    assert list(Store(planned.output).keys("_run/drivers/")) == []


def test_estimate_measures_slow_units_one_by_one_and_fast_ones_in_micro_batches():
    assert [_sample_size(each, 32) for each in (0.001, 1.0, 29.0, 200.0)] == [32, 30, 1, 1]


def test_estimate_of_containers_uses_their_guessed_unit_counts(tmp_path, cluster):
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in/video.mp4", seconds=4, size=(36, 28))
    folder = make_checkpoint(FLOW, small(FLOW), tmp_path / "model")
    values = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "checkpoint": str(folder)}
    known = estimate(RunOptions(task="optical-flow", batch_size=2, **values))
    assert known.plan.units is None
    assert 95 <= known.plan.estimated_units <= 100
    assert (known.sample.units, known.sample.quarantined) == (8, 0)
    assert known.seconds is not None
    assert known.bytes > 95 * 36 * 28
