"""--from-latents: decode the stored latents of an earlier run again, with the same or other options, without INPUT."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import skimage.data
from PIL import Image
from rich.console import Console

from pipeline.reference.published_configs import CONV, FLOW, MASKED_LM, MULTIMODAL, SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.driver.run import execute
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.storage import AccessError, Store
from tests.sample_videos import make_video

TEXTS = ["a [MASK] b", "no mask", "", "[MASK]" + "x" * 90 + "[MASK]", "größer [MASK]"]


class Workspace:
    """A folder with INPUT and with the OUTPUTs of runs over it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.input = folder, folder / "in"
        self.input.mkdir()

    def run(self, task: str, checkpoint: Path, name: str, **options: Any) -> list[dict]:
        """Run over INPUT, or over the latents of the earlier OUTPUT named by `from_latents`, and return the rows."""
        if "from_latents" in options:
            options["from_latents"] = str(self.folder / options["from_latents"])
        else:
            options["input"] = str(self.input)
        options = RunOptions(task=task, output=str(self.folder / name), checkpoint=str(checkpoint), **options)
        execute(options, console=Console(file=io.StringIO()))
        output = Store(options.output)
        assert list(output.keys("quarantine/")) == []
        tables = [pq.read_table(io.BytesIO(output.read(key))) for key in output.keys("predictions/")]
        return [row for table in tables for row in table.to_pylist()]

    def without_inputs(self) -> None:
        shutil.rmtree(self.input)


@pytest.fixture
def workspace(tmp_path: Path, backend: None) -> Workspace:
    return Workspace(tmp_path)


def checkpoint(folder: Path, model_class: str, **changes: Any) -> Path:
    return make_checkpoint(model_class, small(model_class, **changes), folder / model_class)


def assert_same(again: list[dict], before: list[dict], *, without: tuple[str, ...] = ()) -> None:
    """Assert that rows have equal columns and values, except latents and the columns in `without`."""
    assert len(again) == len(before) > 0
    for one, other in zip(again, before, strict=True):
        left_out = {"segment", "latents", "num_latents", "d_latents", *without}
        assert one.keys() - left_out == other.keys() - left_out
        for name in one.keys() - left_out:
            assert_near(one[name], other[name], name)


def assert_near(one: Any, other: Any, name: str) -> None:
    """Assert that nested values are equal, numbers within rounding."""
    if isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5), name
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), name
        for key in one:
            assert_near(one[key], other[key], f"{name}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), name
        for each, its_other in zip(one, other, strict=True):
            assert_near(each, its_other, name)
    else:
        assert one == other, name


KEEP: dict[str, Any] = {"latents": True, "array_dtype": "float32"}


def test_masks_are_filled_from_the_latents_of_each_window(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.input / "a.txt").write_text("\n".join(TEXTS))
    language = checkpoint(tmp_path, MASKED_LM)
    filled = workspace.run("fill-mask", language, "filled", **KEEP)
    workspace.without_inputs()
    assert_same(workspace.run("fill-mask", language, "filled-2", from_latents="filled"), filled)
    best = workspace.run("fill-mask", language, "filled-3", from_latents="filled", top_k=1)
    for one, other in zip(best, filled, strict=True):
        for mask, its_five in zip(one["masks"], other["masks"], strict=True):
            assert_near(mask["candidates"], its_five["candidates"][:1], "candidates")
    assert [len(row["latents"]) // (6 * 32) for row in filled] == [1, 0, 0, 2, 1], "windows of texts with masks"


@pytest.mark.slow
def test_texts_are_labelled_and_embedded_from_latents(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.input / "a.txt").write_text("\n".join(TEXTS))
    labels = checkpoint(tmp_path, SEQUENCE)
    labelled = workspace.run("text-classification", labels, "labelled", logits=True, **KEEP)
    features = workspace.run("feature-extraction", labels, "features", **KEEP)
    workspace.without_inputs()
    assert_same(workspace.run("text-classification", labels, "l2", from_latents="labelled", logits=True), labelled)
    assert_same(workspace.run("feature-extraction", labels, "f2", from_latents="labelled"), features)


def test_another_task_decodes_latents_and_keeps_columns(workspace: Workspace, tmp_path: Path) -> None:
    Image.fromarray(skimage.data.chelsea()).save(workspace.input / "cat.png")
    vision = checkpoint(tmp_path, CONV)
    before = workspace.run("image-classification", vision, "one", logits=True, latents=True, array_dtype="float32")
    workspace.without_inputs()
    again = workspace.run("image-classification", vision, "two", from_latents="one", logits=True)
    assert_same(again, before, without=("frames",))
    assert again[0]["uri"] == str(workspace.input / "cat.png")
    carried = workspace.run("feature-extraction", vision, "three", from_latents="one", keep_columns="label,score")
    assert [(row["label"], row["score"]) for row in carried] == [(row["label"], row["score"]) for row in before]


def test_flow_is_decoded_at_points(workspace: Workspace, tmp_path: Path) -> None:
    make_video(workspace.input / "m.mp4", seconds=0.2, size=(36, 28))
    flow = checkpoint(tmp_path, FLOW)
    before = workspace.run("optical-flow", flow, "one", latents=True, array_dtype="float32")
    workspace.without_inputs()
    again = workspace.run("optical-flow", flow, "two", from_latents="one", array_dtype="float32")
    assert_same(again, before, without=("frames",))
    at = workspace.run("optical-flow", flow, "three", from_latents="one", array_dtype="float32", points="3,5 35,27")
    for row, dense in zip(at, before, strict=True):
        whole = np.reshape(dense["flow"], (28, 36, 2))
        np.testing.assert_allclose(np.reshape(row["flow"], (2, 2)), [whole[5, 3], whole[27, 35]], rtol=1e-4, atol=1e-4)


def clip_model_and_latents(workspace: Workspace) -> tuple[Path, list[dict]]:
    """Make a model of four-frame clips, run it with --latents as `one`, delete INPUT; return the model and the rows."""
    shape = {"num_frames": 4, "audio_samples_per_frame": 1920, "samples_per_patch": 16, "output_shape": [1, 4, 16, 16]}
    make_video(workspace.input / "m.mp4", seconds=0.5, size=(32, 24), audio_rate=48_000)
    model = checkpoint(workspace.folder, MULTIMODAL, **shape)
    rows = workspace.run("multimodal-autoencoding", model, "one", arrays=True, logits=True, **KEEP)
    workspace.without_inputs()
    return model, rows


@pytest.mark.slow
def test_clips_are_decoded_again_without_their_inputs(workspace: Workspace) -> None:
    model, before = clip_model_and_latents(workspace)
    again = workspace.run("multimodal-autoencoding", model, "two", from_latents="one", arrays=True, logits=True)
    assert_same(again, before, without=("video_psnr_db", "audio_psnr_db"))
    assert {row["video_psnr_db"] for row in again} == {None}, "the frames that were read are gone"


def test_other_frames_of_clips_and_the_label_only(workspace: Workspace) -> None:
    task = "multimodal-autoencoding"
    model, before = clip_model_and_latents(workspace)
    some = workspace.run(task, model, "three", from_latents="one", arrays=True, frames="3,1", outputs="video")
    for row, whole in zip(some, before, strict=True):
        frames = np.reshape(whole["frames"], (4, -1))
        np.testing.assert_allclose(np.reshape(row["frames"], (2, -1)), frames[[3, 1]], rtol=1e-5, atol=1e-5)
    label = workspace.run(task, model, "four", from_latents="one", outputs="label")
    assert [row["label_id"] for row in label] == [row["label_id"] for row in before]
    assert "video" not in label[0]
    assert "audio" not in label[0]


@pytest.mark.slow
def test_half_precision_is_near(workspace: Workspace, tmp_path: Path) -> None:
    Image.fromarray(skimage.data.chelsea()).save(workspace.input / "cat.png")
    vision = checkpoint(tmp_path, CONV)
    before = workspace.run("image-classification", vision, "one", logits=True, latents=True)
    again = workspace.run("image-classification", vision, "two", logits=True, from_latents="one")
    np.testing.assert_allclose(again[0]["logits"], before[0]["logits"], atol=1e-2)
    part = next((tmp_path / "one/predictions").iterdir())
    assert pq.read_schema(part).field("latents").type.value_type == "halffloat"


def test_unsuitable_latents_are_refused_before_any_work(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.input / "a.txt").write_text("\n".join(TEXTS))
    labels = checkpoint(tmp_path, SEQUENCE)
    workspace.run("text-classification", labels, "plain")
    workspace.run("feature-extraction", labels, "features", latents=True)
    with pytest.raises(AccessError, match=r"column 'latents' not found.*--latents"):
        workspace.run("text-classification", labels, "again", from_latents="plain")
    with pytest.raises(AccessError, match="column 'truncated' not found"):
        workspace.run("text-classification", labels, "again", from_latents="features")
    other = make_checkpoint(SEQUENCE, small(SEQUENCE), tmp_path / "other", seed=1)
    with pytest.raises(
        UsageError, match=r"has the digest .*, but the latents in .* were made by .*: use that checkpoint"
    ):
        workspace.run("feature-extraction", other, "again", from_latents="features")
    with pytest.raises(UsageError, match="is not the OUTPUT of a run"):
        workspace.run("feature-extraction", labels, "again", from_latents="in")
    for options in ({"fps": 5}, {"short_clip": "drop"}, {"text_unit": "file"}):
        with pytest.raises(UsageError, match=rf"{next(iter(options))} .*no input is read"):
            workspace.run("feature-extraction", labels, "again", from_latents="features", **options)
    assert not (tmp_path / "again").exists()


@pytest.mark.slow
def test_latents_of_an_input_predicted_twice_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.input / "a.txt").write_text("one line")
    labels = checkpoint(tmp_path, SEQUENCE)
    workspace.run("text-classification", labels, "old", latents=True)
    (workspace.input / "a.txt").write_text("another")
    (workspace.input / "b.txt").write_text("one more")
    workspace.run("text-classification", labels, "old", latents=True)
    assert len(workspace.run("text-classification", labels, "new", from_latents="old")) == 2, (
        "b.txt is in a second segment"
    )
    workspace.run("text-classification", labels, "old", latents=True, changed="redo")
    with pytest.raises(AccessError, match=r"one id to several units: 'a\.txt#0' in part-"):
        workspace.run("text-classification", labels, "newer", from_latents="old")
