"""A row holds the speed of whole runs, of the engine alone and of plain scripts.

The scripts do the same work: as many rows and, for images in float32, the same labels."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
import ray
from PIL import Image
from rich.console import Console
from transformers.models.perceiver import modeling_perceiver

from pipeline.benchmark import baseline_ray, whole_runs, workloads
from pipeline.benchmark.baseline import ScriptOptions
from pipeline.benchmark.engine import BenchOptions
from pipeline.benchmark.scaling import bench_scaling
from pipeline.benchmark.whole_runs import bench_pipeline
from pipeline.benchmark.workloads import MEASURED
from pipeline.reference.published_configs import FLOW, FOURIER, MULTIMODAL, SHAPES, Shape, small
from pipeline.reference.sample_media import write_photos
from pipeline.runtime.driver.run import execute
from pipeline.runtime.options import RunOptions

KEYS = {"bench", "head", "shape", "dtype", "units", "engine_units_per_second", "pipeline_units_per_second"}
KEYS |= {"of_the_engine", "plain_ray_units_per_second", "over_plain_ray", "seconds_load", "seconds_predict"}
KEYS |= {
    "seconds_write",
    "peak_bytes",
    "repeats",
    "seconds_model",
    "seconds_start",
    "extrapolated_from_chunks",
    "busy_before",
}


class Tiny(Shape):
    """A shape that costs milliseconds."""

    def config(self):
        changes = {"output_shape": [1, 2, 64, 64]} if self.model_class == MULTIMODAL else {"train_size": [64, 96]}
        return small(self.model_class, **changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_class", "units", "dtype", "chunks"),
    [
        (FOURIER, 12, "bfloat16", None),
        pytest.param(FLOW, 3, "float32", None, marks=pytest.mark.slow),
        pytest.param(MULTIMODAL, 3, "bfloat16", 2, marks=pytest.mark.slow),
    ],
)
def test_row_has_every_column(cluster, model_class, units, dtype, chunks):
    shape = next(shape for shape in SHAPES.values() if shape.model_class == model_class)
    tiny = Tiny(name="tiny", model_class=model_class, changes={})
    (row,) = bench_pipeline(tiny, BenchOptions(dtypes=[dtype], repeats=1, units=units, batch=4))
    assert row.keys() >= KEYS
    assert (row["bench"], row["head"], row["units"], row["dtype"]) == ("pipeline", shape.task, units, dtype)
    assert row["extrapolated_from_chunks"] == chunks
    assert row["plain_ray_dtype"] == ("float32" if model_class == MULTIMODAL else dtype)
    assert row["of_the_engine"] == row["pipeline_units_per_second"] / row["engine_units_per_second"]
    assert row["over_plain_ray"] == row["pipeline_units_per_second"] / row["plain_ray_units_per_second"]
    stages = sum(row[f"seconds_{name}"] for name in ("start", "model")) + units / row["pipeline_units_per_second"]
    assert 0 < stages <= row["seconds_whole"]
    assert min(row[f"seconds_{name}"] for name in ("load", "predict", "write", "model")) > 0
    assert min(row["peak_bytes"], row["plain_ray_peak_bytes"]) > 50 << 20


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_photos(folder, 10, size=(60, 80))
    return folder


def script_options(images: Path, output: Path, checkpoint: Path) -> ScriptOptions:
    return ScriptOptions(task="image-classification", input=str(images), output=str(output), checkpoint=str(checkpoint))


def test_script_options_survive_the_command_line(checkpoint, tmp_path):
    script = replace(script_options(tmp_path / "in", tmp_path / "out", checkpoint), dtype="bfloat16", chunks=2)
    assert ScriptOptions.parse("", script.to_arguments()) == script


def labels(parts: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a plain script by file name."""
    return {Path(row["path"]).name: row for row in ds.dataset(parts).to_table().to_pylist()}


@pytest.mark.slow
def test_ray_script_predicts_the_same_labels(cluster, checkpoint, images, tmp_path):
    baseline_ray.write(script_options(images, tmp_path / "plain", checkpoint))
    options = RunOptions(
        task="image-classification",
        input=str(images),
        output=str(tmp_path / "out"),
        checkpoint=str(checkpoint),
        dtype="float32",
    )
    execute(options, console=Console(file=io.StringIO()))
    ours = {row["id"]: row for row in ds.dataset(tmp_path / "out/predictions").to_table().to_pylist()}
    assert_same_labels(ours, labels(tmp_path / "plain"))


def assert_same_labels(ours: dict[str, dict[str, Any]], theirs: dict[str, dict[str, Any]]) -> None:
    assert ours.keys() == theirs.keys()
    assert len(ours) == 10
    for name, row in ours.items():
        assert (row["label_id"], row["label"]) == (theirs[name]["label_id"], theirs[name]["label"])
        assert row["score"] == pytest.approx(theirs[name]["score"], abs=1e-5)


@pytest.mark.slow
def test_daft_script_predicts_the_same_labels_as_the_ray_script(cluster, checkpoint, images, tmp_path):
    pytest.importorskip("daft", reason="the extra `daft`, which wants an older pyarrow than the other tests")
    exact = tmp_path / "png"  # JPEG decoders differ in their pixels
    exact.mkdir()
    for path in images.iterdir():
        Image.open(path).save(exact / f"{path.stem}.png")
    baseline_ray.write(script_options(exact, tmp_path / "ray", checkpoint))
    script = replace(script_options(exact, tmp_path / "daft", checkpoint), batch_size=4, log=str(tmp_path / "log"))
    subprocess.run([sys.executable, "-m", whole_runs.DAFT_SCRIPT, *script.to_arguments()], check=True)
    assert_same_labels(labels(tmp_path / "ray"), labels(tmp_path / "daft"))


@pytest.mark.slow
@pytest.mark.parametrize(("model_class", "units"), [(FOURIER, 12), (FLOW, 3), (MULTIMODAL, 3)])
def test_row_has_daft_if_requested(cluster, model_class, units):
    pytest.importorskip("daft")
    tiny = Tiny(name="tiny", model_class=model_class, changes={})
    (row,) = bench_pipeline(tiny, BenchOptions(dtypes=["float32"], repeats=1, units=units, daft=True))
    assert row["over_plain_daft"] == row["pipeline_units_per_second"] / row["plain_daft_units_per_second"]
    assert row["plain_daft_peak_bytes"] > 50 << 20


@pytest.mark.slow
def test_scaling_stops_at_the_number_of_cpus(cluster):
    tiny = Tiny(name="tiny", model_class=FOURIER, changes={})
    rows = list(bench_scaling(tiny, BenchOptions(dtypes=["float32"], repeats=1, units=32, batch=2)))
    cpus = int(ray.cluster_resources()["CPU"])
    assert [row["replicas"] for row in rows] == [1 << power for power in range(cpus.bit_length())]
    assert (rows[0]["of_ideal"], rows[0]["threads"], rows[-1]["threads"]) == (1, cpus, 1)
    for row in rows:
        assert row["ideal_units_per_second"] == rows[0]["units_per_second"], "all replicas together have the same CPUs"
        assert row["of_ideal"] == row["units_per_second"] / row["ideal_units_per_second"]


@pytest.mark.slow
def test_missing_unit_is_an_error(cluster, monkeypatch):
    monkeypatch.setattr(
        workloads.sample_media, "write_photos", lambda folder, units, **_: write_photos(folder, units - 1)
    )
    tiny = Tiny(name="tiny", model_class=FOURIER, changes={})
    with pytest.raises(RuntimeError, match="predicted 7 of 8 units"):
        next(bench_pipeline(tiny, BenchOptions(dtypes=["float32"], repeats=1, units=8)))


@pytest.mark.parametrize("name", MEASURED)
def test_small_shapes_have_a_tenth_of_the_parameters(name):
    import torch

    def parameters(shape: Shape) -> int:
        with torch.device("meta"):
            model = getattr(modeling_perceiver, shape.model_class)(shape.config())
        return sum(parameter.numel() for parameter in model.parameters())

    shape = SHAPES[name]
    assert 8 < parameters(shape) / parameters(shape.smaller()) < 12
    assert shape.smaller().name == f"{name}-small"
