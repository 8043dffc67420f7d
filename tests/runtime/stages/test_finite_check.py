"""NaN and infinity: a unit is predicted again in float32, then quarantined, and never stands in a row."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.checkpoints import digest
from pipeline.heads import HeadOptions, head_for
from pipeline.media import Clip, FramePair
from pipeline.perceiver import PerceiverIO
from pipeline.reference.published_configs import BARE, FLOW, MULTIMODAL, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.stages.finite_check import FiniteCheckedModel, NotFinite
from pipeline.runtime.stages.model_runner import ModelRef
from pipeline.runtime.stages.predict import Replica
from pipeline.runtime.stages.shard_format import unpack
from tests.packed_shards import images, model_ref, packed

LOGITS = "perceiver.decoder.decoder.final_layer.bias"
GREAT = 3.4e38  # a float32, and infinite in bfloat16


def damaged(checkpoint: Path, folder: Path, name: str, value: float) -> Path:
    """The checkpoint with another first element of one of its tensors."""
    shutil.copytree(checkpoint, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors[name].view(-1)[0] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def predicted(
    task: str, folder: Path, units: list[Mapping[str, np.ndarray]], dtype: str = "float32", **options: Any
) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Rows, and units that were quarantined, of one shard."""
    keep_latents = options.pop("keep_latents", None)
    head = head_for(task, folder, HeadOptions(**options))
    replica = Replica(ref=model_ref(folder, dtype=dtype), head=head, batch_size=4, keep_latents=keep_latents)
    table, failed, _ = unpack(replica(packed(units)))
    return table, failed.to_pylist()[1:]  # the first was quarantined before


def image_units(count: int) -> list[Mapping[str, np.ndarray]]:
    return [{"image": image} for image in images([32] * count)]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The precisions in which models are loaded, one after another."""
    load, seen = ModelRef.load, []

    def noted(ref: ModelRef) -> PerceiverIO:
        seen.append(ref.dtype)
        return load(ref)

    monkeypatch.setattr(ModelRef, "load", noted)
    return seen


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder of arrays [M, 24], which may hold any numbers."""
    return make_checkpoint(BARE, small(BARE), tmp_path_factory.mktemp("bare") / "model")


def arrays(count: int, **changed: float) -> list[Mapping[str, np.ndarray]]:
    """Inputs of the bare model; `u2=value` changes a number of unit 2."""
    values = np.random.default_rng(0).standard_normal((count, 7, 24)).astype(np.float32)
    for name, value in changed.items():
        values[int(name[1:]), 3, 5] = value
    return [{"inputs": one} for one in values]


def test_nan_weight_quarantines_every_unit_with_the_reason(checkpoint, tmp_path, loads):
    folder = damaged(checkpoint, tmp_path / "nan", LOGITS, float("nan"))
    table, failed = predicted("image-classification", folder, image_units(3))
    assert (table.num_rows, loads) == (0, ["float32"]), "a float32 model is no other one"
    reasons = [(unit["id"], unit["stage"], unit["error"], unit["message"], unit["attempts"]) for unit in failed]
    message = "NaN or infinity in the outputs, in float32"
    assert reasons == [(f"id{i}", "predict", "NotFinite", message, 1) for i in range(3)]
    assert predicted("feature-extraction", folder, image_units(3))[0].num_rows == 3, "the encoder has no part in it"


def test_units_that_overflow_bfloat16_are_predicted_in_float32(checkpoint, tmp_path, loads):
    folder = damaged(checkpoint, tmp_path / "great", LOGITS, GREAT)
    expected, _ = predicted("image-classification", folder, image_units(5), logits=True)
    loads.clear()
    table, failed = predicted("image-classification", folder, image_units(5), "bfloat16", logits=True)
    assert loads == ["bfloat16", "float32"], "once for all of them"
    assert failed == []
    logits = np.array(table["logits"].to_pylist())
    assert logits[:, 0] == pytest.approx(GREAT)
    np.testing.assert_allclose(logits, expected["logits"].to_pylist(), rtol=1e-4, atol=1e-5)


def test_other_units_of_the_micro_batch_are_not_predicted_in_float32(bare):
    units = arrays(9, u2=7e4, u7=float("nan"))  # the greatest float16 is 65,504
    exact, _ = predicted("feature-extraction", bare, units)
    table, failed = predicted("feature-extraction", bare, units, "float16")
    assert table["id"].to_pylist() == exact["id"].to_pylist() == [f"id{i}" for i in (0, 1, 2, 3, 4, 5, 6, 8)]
    distance = np.abs(np.subtract(table["embedding"].to_pylist(), exact["embedding"].to_pylist())).max(axis=1)
    assert distance[2] < 1e-5
    assert np.delete(distance, 2).min() > 1e-5, "the others are as near as float16 is"
    reasons = [(unit["id"], unit["message"], unit["attempts"]) for unit in failed]
    assert reasons == [("id7", "NaN or infinity in the inputs, in float32 and in float16", 2)]


def test_float32_model_that_cannot_be_loaded_is_not_blamed_on_a_unit(checkpoint, tmp_path):
    folder = damaged(checkpoint, tmp_path / "great", LOGITS, GREAT)
    head = head_for("image-classification", folder, HeadOptions())
    replica = Replica(ref=model_ref(folder, dtype="bfloat16"), head=head)
    (folder / "model.safetensors").unlink()
    with pytest.raises(RuntimeError, match=r"could not be loaded in float32: no weights in"):
        replica(packed(image_units(2)))


def test_weights_that_changed_before_they_are_loaded_in_float32_end_the_run_with_both_digests(checkpoint, tmp_path):
    folder = damaged(checkpoint, tmp_path / "great", LOGITS, GREAT)
    head = head_for("image-classification", folder, HeadOptions())
    replica, before = Replica(ref=model_ref(folder, dtype="bfloat16"), head=head), digest(folder)
    shutil.rmtree(folder)
    damaged(checkpoint, folder, LOGITS, 1.0)
    _, _, scalars = unpack(replica(packed(image_units(2))))
    digests = f"its digest is {digest(folder)}, the run was planned with {before}"
    assert scalars["fatal"] == f"CheckpointChanged: checkpoint {folder} changed: {digests}"


def test_infinity_is_found_before_a_head_rounds_it_to_bytes(tmp_path):
    original = make_checkpoint(MULTIMODAL, small(MULTIMODAL), tmp_path / "model")
    name = "perceiver.output_postprocessor.modalities.image.classifier.bias"
    folder = damaged(original, tmp_path / "nan", name, float("nan"))
    clip = {"clip_index": 0, "start_seconds": 0.0, "end_seconds": 1.0, "has_audio": True, "padded_frames": 0}
    clip = Clip(**clip, frames=np.zeros((2, 16, 16, 3), np.uint8), samples=np.zeros(64, np.float32))
    unit = head_for("multimodal-autoencoding", folder, HeadOptions()).transform(clip)
    table, failed = predicted("multimodal-autoencoding", folder, [unit, unit])
    assert (table.num_rows, [one["error"] for one in failed]) == (0, ["NotFinite"] * 2)
    table, failed = predicted("multimodal-autoencoding", folder, [unit, unit], outputs=("audio", "label"))
    assert (table.num_rows, failed) == (2, []), "what is not decoded is not looked at"


def test_stored_latents_that_are_not_finite_are_quarantined(checkpoint):
    latents = np.random.default_rng(0).standard_normal((4, 1, 6, 32)).astype(np.float32)
    latents[1, 0, 2, 3] = np.inf
    table, failed = predicted("image-classification", checkpoint, [{"latents": one} for one in latents])
    assert table["id"].to_pylist() == ["id0", "id2", "id3"]
    assert [unit["message"] for unit in failed] == ["NaN or infinity in the stored latents, in float32"]


def test_latents_beyond_float16_need_float32_columns(checkpoint, tmp_path):
    name = "perceiver.encoder.self_attends.1.mlp.dense2.bias"
    folder = damaged(checkpoint, tmp_path / "wide", name, 1e5)
    table, failed = predicted("image-classification", folder, image_units(2), keep_latents="float16")
    assert table.num_rows == 0
    message = "column 'latents' has values beyond 65,504, the maximum of float16: use --array-dtype float32"
    assert [(unit["stage"], unit["error"], unit["message"]) for unit in failed] == [
        ("predict", "OverflowError", message)
    ] * 2
    table, failed = predicted("image-classification", folder, image_units(2), keep_latents="float32")
    assert failed == []
    assert np.abs(np.array(table["latents"].to_pylist())).max() == pytest.approx(1e5, rel=1e-3)


def test_flow_beyond_float16_needs_float32_columns(tmp_path):
    original = make_checkpoint(FLOW, small(FLOW), tmp_path / "model")
    folder = damaged(original, tmp_path / "far", LOGITS, 1e6)  # in units of a fifth of a pixel
    pair = FramePair(frames=np.zeros((2, 16, 24, 3), np.uint8), start_seconds=None, frame_index=0)
    unit = head_for("optical-flow", folder, HeadOptions()).transform(pair)
    table, failed = predicted("optical-flow", folder, [unit])
    assert (table.num_rows, failed[0]["error"]) == (0, "OverflowError")
    assert "'flow' has values beyond 65,504" in failed[0]["message"]
    table, failed = predicted("optical-flow", folder, [unit], array_dtype="float32")
    assert (table.num_rows, failed) == (1, [])
    assert np.reshape(table["flow"].to_pylist()[0], (16, 24, 2))[..., 0].min() > 1.9e5


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"a": [x]}, lambda x: ({"b": (x,)}, 1)])
def test_nested_outputs_are_checked(checkpoint, wrap: Callable[[Any], Any], bad: float):
    guarded = FiniteCheckedModel(PerceiverIO.from_pretrained(str(checkpoint)))
    assert guarded.dtype is torch.float32, "the rest is the model's"
    guarded.check()
    fine = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    guarded.note("outputs", [wrap(fine), torch.zeros(0), torch.tensor([1]), None, "text"])
    guarded.check()
    worse = torch.zeros(5, 7)
    worse[4, 6] = bad
    guarded.note("outputs", [fine, wrap(worse)])
    with pytest.raises(NotFinite, match="in the outputs, in float32"):
        guarded.check()
