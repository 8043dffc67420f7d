"""Checkpoints in every supported form, and the errors of invalid ones."""

import json
import pickle
import shutil
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PerceiverModel

from pipeline.perceiver import CheckpointError, PerceiverIO
from pipeline.reference import transformers_model
from pipeline.reference.published_configs import BARE, CONV, MASKED_LM, MODEL_CLASSES, MULTIMODAL, small
from pipeline.reference.random_checkpoints import build_model, draw_weights, make_checkpoint
from pipeline.reference.sample_inputs import sample_inputs

WEIGHTS = "model.safetensors"
BINARY = "pytorch_model.bin"
A_TENSOR = "perceiver.encoder.self_attends.1.mlp.dense1.bias"


@pytest.fixture
def folder(tmp_path):
    return make_checkpoint(MASKED_LM, small(MASKED_LM), tmp_path / "checkpoint")


def change(folder, edit):
    """Rewrite the weights after `edit(tensors)`."""
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def change_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def as_binary(folder):
    """Return the same checkpoint as pytorch_model.bin."""
    torch.save(load_file(folder / WEIGHTS), folder / BINARY)
    (folder / WEIGHTS).unlink()


def assert_loads(ref, folder, close):
    """Check that `ref` predicts the same as the checkpoint in `folder`."""
    ids = sample_inputs(small(MASKED_LM), MASKED_LM, batch=2)
    expected = transformers_model.predict(transformers_model.load(folder), ids)
    close(PerceiverIO.from_pretrained(ref)(ids), expected["logits"])


@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_model_names_the_checkpoint_it_was_loaded_from(tmp_path, model_class):
    model = PerceiverIO.from_pretrained(str(make_checkpoint(model_class, small(model_class), tmp_path)))
    assert model.model_class == model_class
    assert model.config.to_diff_dict().keys() >= {"num_latents", "d_latents"}
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_model_is_loaded_in_the_requested_dtype(folder, dtype):
    model = PerceiverIO.from_pretrained(str(folder), dtype=dtype)
    assert model.dtype == dtype
    ids = sample_inputs(small(MASKED_LM), MASKED_LM)
    assert model(ids).dtype == dtype
    assert model(ids).isfinite().all()


def test_weights_in_half_precision_load_in_full(folder, close):
    change(folder, lambda tensors: tensors.update({name: x.bfloat16() for name, x in tensors.items()}))
    assert_loads(str(folder), folder, close)


def test_pytorch_model_bin(folder, close):
    as_binary(folder)
    assert_loads(str(folder), folder, close)


def test_safetensors_are_preferred_if_both_exist(folder, close):
    (folder / BINARY).write_bytes(b"not weights at all")
    assert_loads(str(folder), folder, close)


@pytest.fixture
def sharded(tmp_path):
    """A checkpoint whose weights are in several files."""
    build_model(MASKED_LM, small(MASKED_LM), 0).save_pretrained(tmp_path, max_shard_size="40KB")
    return tmp_path


def test_sharded_safetensors(sharded, close):
    assert len(list(sharded.glob("*.safetensors"))) > 1
    assert_loads(str(sharded), sharded, close)


class Payload:
    """A pickle that would create a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_pickle_with_a_payload_is_refused(folder, tmp_path):
    as_binary(folder)
    mark = tmp_path / "was run"
    tensors = torch.load(folder / BINARY, weights_only=True)
    torch.save({**tensors, "payload": Payload(mark)}, folder / BINARY)
    with pytest.raises(CheckpointError, match=BINARY):
        PerceiverIO.from_pretrained(str(folder))
    assert not mark.exists()


def test_bare_pickle_is_refused(folder, tmp_path):
    as_binary(folder)
    mark = tmp_path / "was run"
    (folder / BINARY).write_bytes(pickle.dumps(Payload(mark), protocol=2))
    with pytest.raises(CheckpointError, match=BINARY):
        PerceiverIO.from_pretrained(str(folder))
    assert not mark.exists()


@pytest.mark.parametrize("part", ["key", "value"])
def test_misshapen_part_of_a_fused_tensor_is_named(folder, part):
    name = f"perceiver.encoder.self_attends.0.attention.self.{part}.weight"
    change(folder, lambda tensors: tensors.update({name: torch.zeros(16, 32)}))
    with pytest.raises(CheckpointError, match=name):
        PerceiverIO.from_pretrained(str(folder))


@pytest.mark.parametrize("name", ["mask.audio", "mask.image"])
@pytest.mark.parametrize("present", [True, False])
def test_masks_that_are_never_read_may_be_there_or_not(tmp_path, name, present):
    folder = make_checkpoint(MULTIMODAL, small(MULTIMODAL), tmp_path)
    full = f"perceiver.input_preprocessor.{name}"
    assert full in load_file(folder / WEIGHTS)
    if not present:
        change(folder, lambda tensors: tensors.pop(full))
    assert PerceiverIO.from_pretrained(str(folder)).model_class == MULTIMODAL


@pytest.mark.parametrize("present", [True, False])
def test_counts_of_training_steps_may_be_there_or_not(tmp_path, present):
    folder = make_checkpoint(CONV, small(CONV), tmp_path)
    full = "perceiver.input_preprocessor.convnet.batchnorm.num_batches_tracked"
    assert full in load_file(folder / WEIGHTS)
    if not present:
        change(folder, lambda tensors: tensors.pop(full))
    assert PerceiverIO.from_pretrained(str(folder)).model_class == CONV


def test_label_mask_is_read(tmp_path):
    folder = make_checkpoint(MULTIMODAL, small(MULTIMODAL), tmp_path)
    change(folder, lambda tensors: tensors.pop("perceiver.input_preprocessor.mask.label"))
    with pytest.raises(CheckpointError, match=r"mask\.label"):
        PerceiverIO.from_pretrained(str(folder))


def test_file_uri(folder, close):
    assert_loads(folder.as_uri(), folder, close)


def test_uri_of_memory(folder, close, tmp_path, monkeypatch):
    monkeypatch.setenv("PERCEIVER_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.put(f"{folder}/", "/models/small/", recursive=True)
    try:
        assert_loads("memory://models/small", folder, close)
    finally:
        memory.rm("/models", recursive=True)


def test_bare_model(tmp_path, close):
    folder = make_checkpoint(BARE, small(BARE), tmp_path)
    assert not any(name.startswith("perceiver.") for name in load_file(folder / WEIGHTS))
    inputs = sample_inputs(small(BARE), BARE, batch=2)
    model = PerceiverIO.from_pretrained(str(folder))
    close(model.encode(inputs), transformers_model.predict(transformers_model.load(folder), inputs)["latents"])


def test_model_that_transformers_saved_and_loaded_again(tmp_path, close):
    model = PerceiverModel(small(BARE))
    draw_weights(model, seed=7)
    model.save_pretrained(tmp_path / "first")
    PerceiverModel.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    first, second = (PerceiverIO.from_pretrained(str(tmp_path / name)) for name in ("first", "second"))
    inputs = sample_inputs(small(BARE), BARE)
    assert torch.equal(first.encode(inputs), second.encode(inputs))
    close(first.encode(inputs), transformers_model.predict(build_model(BARE, small(BARE), 7), inputs)["latents"])


def test_moved_checkpoint_still_loads(folder, tmp_path, close):
    moved = Path(shutil.move(folder, tmp_path / "elsewhere"))
    assert_loads(str(moved), moved, close)
