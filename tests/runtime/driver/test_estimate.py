"""What a run would take, from a few units that were tried."""

import pytest

from pipeline.reference.published_configs import FLOW, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.driver.estimate import estimate, seconds_per_unit
from pipeline.runtime.driver.run import execute
from pipeline.runtime.driver.sample import MeasuredSample, sample_pieces, sample_size
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.runtime.ray_backend.resources import Resources
from pipeline.sources import IMAGES, discover
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
        max_quarantine=0.1,
    )
    known = estimate(options)
    output = Store(options.output)
    assert (known.plan.units, known.plan.shards, len(known.plan.segments), known.shards_done) == (60, 8, 1, 0)
    assert (known.resources.device, known.resources.dtype, known.resources.replicas) == ("cpu", "float32", 2)
    assert known.sample.units == 60, "all of them, if they are few"
    assert known.sample.quarantined == 5
    assert 0 < known.sample.load_seconds < 5
    assert 0 < known.sample.predict_seconds < 5
    assert 0 < known.sample.write_seconds < 5
    assert known.seconds == pytest.approx(60 * seconds_per_unit(known.sample, known.resources))
    assert known.start_seconds > known.sample.start_seconds > 0
    assert list(output.keys("predictions/")) == []
    assert len(list(output.keys("_run/plan/"))) == 2
    summary = execute(options)
    assert known.bytes == pytest.approx(summary.bytes, rel=0.2)


def test_a_sample_is_small_if_units_are_slow():
    assert [sample_size(each) for each in (0.001, 1.0, 19.0, 200.0)] == [64, 20, 1, 1]


def test_a_sample_is_spread_over_the_plan(tmp_path):
    inputs, output = tmp_path / "in", Store(str(tmp_path / "out"))
    inputs.mkdir()
    for number in range(200):
        (inputs / f"{number:03d}.jpg").touch()
    sizing = ShardSizing(unit_bytes=1, shard_size=5)
    plan = freeze_plan(output, IMAGES, lambda: discover(str(inputs), IMAGES), sizing)
    sampled = sample_pieces(output, plan)
    assert [pieces[0].key for pieces in sampled] == [f"{5 * (40 * n // 16):03d}.jpg" for n in range(16)]
    assert {len(pieces) for pieces in sampled} == {5}


def measured(load: float, predict: float, write: float) -> MeasuredSample:
    fields = {"load_seconds": load, "predict_seconds": predict, "write_seconds": write}
    return MeasuredSample(units=8, quarantined=0, start_seconds=5.0, unit_bytes=1.0, part_bytes=0.0, **fields)


def resources(device: str, replicas: int, cpus: float, replica_cpus: float) -> Resources:
    fields = {"replicas": replicas, "cpus": cpus, "replica_cpus": replica_cpus, "replica_gpus": 0.0}
    threads = max(1, int(cpus / replicas))
    return Resources(device=device, dtype="float32", load_cpus=0.5, write_cpus=0.25, threads=threads, **fields)


def test_stages_share_the_cores_of_a_machine_without_a_gpu():
    one = resources("cpu", 1, 2.0, 1.0)
    assert seconds_per_unit(measured(0.0, 1.0, 0.0), one) == 1.0
    assert seconds_per_unit(measured(0.2, 1.0, 0.2), one) == pytest.approx(1.2), "half of 0.4 s on two cores"
    assert seconds_per_unit(measured(0.0, 2.0, 0.0), resources("cpu", 2, 2.0, 0.5)) == 1.0


def test_the_slowest_stage_counts_next_to_a_gpu():
    gpus = resources("cuda", 4, 16.0, 1.0)
    assert seconds_per_unit(measured(0.01, 0.4, 0.01), gpus) == 0.1
    assert seconds_per_unit(measured(12.0, 0.4, 0.0), gpus) == pytest.approx(0.75), "16 CPUs load"


def test_estimate_of_containers_uses_their_guessed_unit_counts(tmp_path, backend):
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in/video.mp4", seconds=1, size=(20, 14))
    folder = make_checkpoint(FLOW, small(FLOW), tmp_path / "model")
    values = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "checkpoint": str(folder)}
    known = estimate(RunOptions(task="optical-flow", batch_size=2, **values))
    assert known.plan.units is None
    assert 23 <= known.plan.estimated_units <= 25
    assert known.sample.quarantined == 0
    assert 1 <= known.sample.units <= 25, "as many as fit in the time"
    assert known.seconds is not None
    assert known.bytes > 23 * 20 * 14
