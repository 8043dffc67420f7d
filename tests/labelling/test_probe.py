"""Linear probes: fits, what is saved, and runs that predict with one in the same pass or from stored latents."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.checkpoints import CheckpointError
from pipeline.heads.pooling import pool
from pipeline.heads.probe import Probe
from pipeline.labelling import probe as fitting
from pipeline.labelling.features import read_features
from pipeline.labelling.probe import Fitted, fit_probe
from pipeline.predictor.predictor import Predictor
from pipeline.reference.published_configs import FLOW, MASKED_LM, MULTIMODAL, small
from pipeline.results import Results, open_run
from pipeline.runtime.errors import UsageError
from pipeline.storage import AccessError
from tests import example_runs
from tests.sample_videos import make_video


def clouds(units: int, labels: int, spread: float, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Return features of units around one center per label, and their labels."""
    chance = np.random.default_rng(seed)
    centers = np.random.default_rng(0).normal(size=(labels, 6))
    codes = np.arange(units) % labels
    features = centers[codes] + spread * chance.normal(size=(units, 6))
    return (10 * features + 3).astype(np.float32), [f"label {code}" for code in codes]


def fit(features: np.ndarray, known: list[str]) -> Fitted:
    return fit_probe(features, known, pooling="mean", checkpoint="digest", facts={"task": "x"})


def predicted(probe: Probe, features: np.ndarray) -> list[str]:
    numbers = probe.logits(torch.from_numpy(features)).argmax(dim=1).tolist()
    return [probe.labels[number] for number in numbers]


def share(found: list[str], expected: list[str]) -> float:
    return float(np.mean([one == other for one, other in zip(found, expected, strict=True)]))


@pytest.mark.parametrize("labels", [2, 4])
def test_accuracy_of_held_out_units_is_that_of_new_ones(labels: int) -> None:
    features, known = clouds(240, labels, 0.9)
    fitted = fit(features, known)
    more = clouds(4000, labels, 0.9, seed=1)
    low, high = fitted.accuracy_interval
    assert low <= share(predicted(fitted.probe, more[0]), more[1]) <= high
    assert 0.6 < low < fitted.accuracy < high < 1  # a fit with something to err about
    chances = fitted.probe.logits(torch.from_numpy(more[0])).softmax(dim=1).numpy()
    right = chances.argmax(axis=1) == np.arange(4000) % labels
    assert abs(chances.max(axis=1).mean() - right.mean()) < 0.05  # calibrated
    assert fitted.probe.labels == tuple(f"label {number}" for number in range(labels))


def test_fit_is_deterministic_and_depends_on_the_labels() -> None:
    features, known = clouds(90, 3, 0.5)
    assert fit(features, known).probe.digest == fit(features, known).probe.digest
    assert fit(features, known).probe.digest != fit(features, known[1:] + known[:1]).probe.digest


def test_many_units_are_held_out_once_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MAX_NESTED", 100)
    monkeypatch.setattr(fitting, "MAX_SEARCHED", 60)
    features, known = clouds(200, 2, 0.5)
    fitted = fit(features, known)
    assert len(fitted.held_out) == 40
    assert list(fitted.notes[:2]) == [
        "of 200 units a fifth was held out once, not each in turn",
        "the regularization was chosen among 60 of them",
    ]


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (["a"] * 10, "all labelled units have the label 'a': a probe needs at least two labels"),
        (["a"] * 8 + ["b", "[/red]"], r"at least 3 units of each label; fewer have '\[/red\]' \(1\), 'b' \(1\): label"),
        ([str(number) for number in range(10_001)], "there are 10,001 labels, and a probe has at most 10,000"),
    ],
)
def test_labels_that_no_probe_can_have_are_named(known: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        fit(np.ones((len(known), 2), np.float32), known)


def test_features_that_are_not_finite_or_of_different_lengths_are_named() -> None:
    batch = pa.record_batch({"id": ["a", "b"], "embedding": pa.array([[1.0, 2.0], [float("nan"), 1.0]])})
    with pytest.raises(UsageError, match="embeddings of 1 unit are not finite: 'b'"):
        read_features([batch], "mean")
    batch = pa.record_batch({"id": ["a", "b"], "embedding": pa.array([[1.0, 2.0], [1.0]])})
    with pytest.raises(UsageError, match="differ in their length"):
        read_features([batch], "mean")


def test_saved_probe_is_the_same_and_is_not_overwritten(tmp_path: Path) -> None:
    made = fit(*clouds(60, 3, 0.3)).probe
    made.save(str(tmp_path / "probe"))
    found = Probe.load(str(tmp_path / "probe"))
    assert (found.digest, found.labels, found.facts["units"]) == (made.digest, made.labels, 60)
    assert sorted(path.name for path in (tmp_path / "probe").iterdir()) == ["probe.json", "probe.safetensors"]
    with pytest.raises(AccessError, match=r"probe\.safetensors exists and is not overwritten"):
        made.save(str(tmp_path / "probe"))


def test_probe_in_a_bucket(s3: Any) -> None:
    made = fit(*clouds(60, 3, 0.3)).probe
    uri = f"{s3.bucket('probes')}/mine"
    made.save(uri)
    assert Probe.load(uri).digest == made.digest


def _described(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        described = json.loads((folder / "probe.json").read_text())
        change(described)
        (folder / "probe.json").write_text(json.dumps(described))

    return damage


def _weights(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = {name: array.copy() for name, array in load_file(folder / "probe.safetensors").items()}
        change(tensors)
        save_file(tensors, folder / "probe.safetensors")

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no description": (lambda folder: (folder / "probe.json").unlink(), "is not a probe: no file found"),
    "no weights": (lambda folder: (folder / "probe.safetensors").unlink(), "is not a probe: no file found"),
    "half a description": (lambda folder: (folder / "probe.json").write_text('{"form'), "is damaged: Unterminated"),
    "half the weights": (lambda folder: (folder / "probe.safetensors").write_bytes(b"12345678"), "is damaged"),
    "another version": (_described(lambda one: one.update(format=2)), "is of another version of perceiver-pipeline"),
    "no labels": (_described(lambda one: one.pop("labels")), "is damaged: KeyError 'labels'"),
    "a list": (lambda folder: (folder / "probe.json").write_text("[]"), "is damaged: TypeError"),
    "other labels": (_described(lambda one: one.update(labels=["a", "b", "c"])), "a file of it was changed"),
    "labels twice": (_described(lambda one: one.update(labels=["a", "a", "c"])), "its labels must be different texts"),
    "fewer labels": (_described(lambda one: one["labels"].pop()), r"shapes \(3, 6\) and \(3,\) for 2 labels"),
    "another pooling": (_described(lambda one: one.update(pooling="most")), "its pooling a known one"),
    "other weights": (_weights(lambda one: one["weight"].__imul__(2)), "a file of it was changed"),
    "weights that are not finite": (_weights(lambda one: one["bias"].fill(np.nan)), "must be finite float32"),
    "no bias": (_weights(lambda one: one.pop("bias")), "is damaged: KeyError 'bias'"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_probe_is_refused(tmp_path: Path, name: str) -> None:
    fit(*clouds(60, 3, 0.3)).probe.save(str(tmp_path))
    damage, reason = DAMAGES[name]
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=reason):
        Probe.load(str(tmp_path))


@pytest.mark.parametrize("counts", [[1, 1, 1], [2, 1]])
def test_pooling_is_over_all_latents_of_a_unit(counts: list[int]) -> None:
    latents = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32))
    expected = []
    for part in latents.split(counts):
        flat = part.reshape(-1, 4).numpy()
        expected.append(np.concatenate([flat.mean(axis=0), flat.std(axis=0), flat.max(axis=0)]))
    assert np.allclose(pool(latents, counts, "statistics"), np.stack(expected), atol=1e-6)
    assert np.allclose(pool(latents, counts, "mean"), np.stack(expected)[:, :4], atol=1e-6)


# Runs with a probe, of every kind of medium.


def labelled(run: Results, folder: Path) -> Path:
    """Write a file that labels the units of a run in turn."""
    ids = sorted({row["id"] for row in run.rows(["id"])})
    lines = "".join(f'"{name}",{"even" if number % 2 == 0 else "odd"}\n' for number, name in enumerate(ids))
    path = folder / "labels.csv"
    path.write_text(f"id,label\n{lines}")
    return path


def images(folder: Path) -> Path:
    for number in range(8):
        values = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
        (folder / "in").mkdir(exist_ok=True)
        Image.fromarray(values).save(folder / f"in/{number}.png")
    return folder / "in"


def texts(folder: Path) -> Path:
    (folder / "in.txt").write_text("".join(f"{'a rose is red ' * number}\n" for number in range(1, 9)))
    return folder / "in.txt"


def video(folder: Path) -> Path:
    make_video(folder / "in.mp4", seconds=9 / 25, size=(20, 14))
    return folder / "in.mp4"


def clips(folder: Path) -> Path:
    make_video(folder / "in.mp4", seconds=16 * 8 / 25, size=(24, 16), audio_rate=48_000)
    return folder / "in.mp4"


MEDIA: dict[str, tuple[Callable[[Path], Path], tuple[str, dict] | None, tuple[str, ...]]] = {
    "images": (images, None, ("image-classification", "feature-extraction")),
    "texts": (texts, (MASKED_LM, {}), ("text-classification", "feature-extraction")),
    "frame pairs": (video, (FLOW, {}), ("feature-extraction",)),
    "clips": (clips, (MULTIMODAL, example_runs.CLIP), ("feature-extraction",)),
}


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("pooling", ["mean", "statistics"])
def test_runs_with_a_probe_give_its_labels(tmp_path: Path, checkpoint: Path, medium: str, pooling: str) -> None:
    make, model, tasks = MEDIA[medium]
    source = make(tmp_path)
    if model is not None:
        checkpoint = example_runs.make_checkpoint(model[0], small(model[0], **model[1]), tmp_path / "model")
    options = {"latents": True, "array_dtype": "float32", "batch_size": 3}
    example_runs.run("feature-extraction", source, tmp_path / "features", checkpoint, **options)
    features = open_run(tmp_path / "features")
    fitted = features.fit_probe(labelled(features, tmp_path), pooling)
    fitted.probe.save(str(tmp_path / "probe"))
    table, values = read_features(features.batches(["id", "latents", "num_latents", "d_latents"]), pooling)
    wanted = dict(zip(table["id"].to_pylist(), predicted(fitted.probe, values), strict=True))
    assert len(wanted) >= 8
    for task in tasks:
        output = tmp_path / task
        example_runs.run(task, source, output, checkpoint, probe=str(tmp_path / "probe"))
        rows = list(open_run(output).rows())
        assert {row["id"]: row["label"] for row in rows} == wanted
        assert open_run(output).run.label_names == ("even", "odd")
        assert ("embedding" in rows[0]) == (task == "feature-extraction")
        assert ("truncated" in rows[0]) == (task == "text-classification")
        assert all(len(row["topk"]) == 2 and 0.5 <= row["score"] <= 1 for row in rows)
    stored = {"from_latents": str(tmp_path / "features"), "probe": str(tmp_path / "probe")}
    example_runs.run("feature-extraction", "", tmp_path / "stored", checkpoint, **stored)
    assert {row["id"]: row["label"] for row in open_run(tmp_path / "stored").rows()} == wanted


def test_probe_belongs_to_its_checkpoint_and_to_its_output(
    tmp_path: Path, checkpoint: Path, checkpoints: Callable[..., Path]
) -> None:
    source = images(tmp_path)
    example_runs.run("feature-extraction", source, tmp_path / "features", checkpoint)
    features = open_run(tmp_path / "features")
    labels = labelled(features, tmp_path)
    features.fit_probe(labels).probe.save(str(tmp_path / "probe"))
    labels.write_text(labels.read_text().replace("odd", "strange"))
    features.fit_probe(labels).probe.save(str(tmp_path / "other"))
    with pytest.raises(UsageError, match="the rows have no latents: run it with --latents"):
        features.fit_probe(labels, "statistics")

    def classify(**options: Any) -> None:
        example_runs.run("image-classification", source, tmp_path / "out", **{"checkpoint": checkpoint} | options)

    classify(probe=str(tmp_path / "probe"))
    with pytest.raises(UsageError, match=r"options\.probe was "):
        classify(probe=str(tmp_path / "other"))
    with pytest.raises(UsageError, match=r"options\.probe was "):
        classify()
    with pytest.raises(CheckpointError, match="the probe was fitted to latents of the checkpoint with the digest"):
        classify(probe=str(tmp_path / "probe"), checkpoint=checkpoints("PerceiverForImageClassificationLearned"))
    with pytest.raises(CheckpointError, match=f"{tmp_path}/missing is not a probe: no file found"):
        classify(probe=str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="probe is not supported for optical-flow, but for image-classification, text"):
        example_runs.run("optical-flow", source, tmp_path / "flow", checkpoint, probe=str(tmp_path / "probe"))
    with pytest.raises(CheckpointError, match="reads images; text-classification with a probe needs one for texts"):
        example_runs.run(
            "text-classification", texts(tmp_path), tmp_path / "t", checkpoint, probe=str(tmp_path / "probe")
        )
    places = [str(source), str(tmp_path / "flow"), "--checkpoint", str(checkpoint), "--probe", str(tmp_path / "probe")]
    refused = CliRunner().invoke(app, ["run", "optical-flow", *places])  # which looks at the checkpoint first of all
    assert refused.exit_code == 2
    assert refused.output.startswith("error: probe is not supported for optical-flow")
    predictor = Predictor("image-classification", checkpoint=str(checkpoint), probe=str(tmp_path / "probe"))
    assert [row["label"] for row in predictor(sorted(map(str, source.iterdir())))] == [
        row["label"] for row in sorted(open_run(tmp_path / "out").rows(), key=lambda row: row["id"])
    ]
