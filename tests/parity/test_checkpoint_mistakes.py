"""Folders that are not quite checkpoints: read if that is safe, else refused with the cause and what to do."""

import logging.handlers
import os
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from pipeline.perceiver import CheckpointError, PerceiverIO, model
from pipeline.reference import transformers_model
from pipeline.reference.published_configs import BARE, FOURIER, MASKED_LM, MULTIMODAL, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.reference.sample_inputs import sample_inputs

WEIGHTS, BINARY = "model.safetensors", "pytorch_model.bin"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(FOURIER, small(FOURIER), tmp_path / "checkpoint")


def rename(folder: Path, prefix: str) -> None:
    tensors = {f"{prefix}{name}": tensor for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize("model_class", [BARE, MASKED_LM, FOURIER, MULTIMODAL])
@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model.", "module._orig_mod.", "model._orig_mod."])
def test_prefixes_of_wrappers_are_taken_off_and_it_is_said(
    tmp_path: Path, prefix: str, model_class: str, close, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not caplog: pytest adds its handlers to Ray Data's logger too, and a run in the same process limits those.
    records = logging.handlers.BufferingHandler(capacity=100)
    monkeypatch.setattr(model._LOGGER, "handlers", [records])
    folder = make_checkpoint(model_class, small(model_class), tmp_path)
    inputs = sample_inputs(small(model_class), model_class)
    expected = transformers_model.predict(transformers_model.load(folder), inputs)["latents"]
    assert PerceiverIO.check_pretrained(folder) == []
    rename(folder, prefix)
    assert f"begin with {prefix}, which was taken off" in PerceiverIO.check_pretrained(folder)[0]
    close(PerceiverIO.from_pretrained(str(folder)).encode(inputs), expected)
    assert f"begin with {prefix}, which was taken off" in records.buffer[0].getMessage()


@pytest.mark.parametrize("size", [0, 7, 8, 100, 5000])
def test_damaged_weights_are_a_checkpoint_error(folder: Path, size: int) -> None:
    for content in (os.urandom(size), b"\x00" * size, b"\x10" + b"\x00" * 7 + b'{"a": {"x": 1}} ' + os.urandom(size)):
        (folder / WEIGHTS).write_bytes(content)
        for read in (PerceiverIO.check_pretrained, PerceiverIO.from_pretrained):
            with pytest.raises(CheckpointError, match=WEIGHTS):
                read(folder)
