"""Folders that are not quite checkpoints: read if that is safe, else refused with the cause and what to do."""

import json
import logging.handlers
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.checkpoints import digest, unchanged
from pipeline.perceiver import CheckpointError, PerceiverIO, model
from pipeline.reference import transformers_model
from pipeline.reference.published_configs import BARE, FOURIER, MASKED_LM, MULTIMODAL, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.reference.sample_inputs import sample_inputs

WEIGHTS, BINARY = "model.safetensors", "pytorch_model.bin"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12345\n"
A_TENSOR = "perceiver.encoder.self_attends.1.mlp.dense1.bias"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(FOURIER, small(FOURIER), tmp_path / "checkpoint")


def rename(folder: Path, prefix: str) -> None:
    tensors = {f"{prefix}{name}": tensor for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS)


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_tensor(folder: Path, name: str, tensor: torch.Tensor) -> None:
    save_file(load_file(folder / WEIGHTS) | {name: tensor}, folder / WEIGHTS)


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


@pytest.mark.parametrize("suffix", [WEIGHTS, BINARY])
def test_prefix_is_named_if_the_names_differ_without_it_too(folder: Path, suffix: str) -> None:
    rename(folder, "module.")
    change_tensor(folder, "module.criterion.weight", torch.zeros(3))
    if suffix == BINARY:
        torch.save(load_file(folder / WEIGHTS), folder / BINARY)
        (folder / WEIGHTS).unlink()
    refused(folder, r"module\. was taken off.* holds tensor criterion\.weight")


def test_prefix_of_only_some_names_is_not_taken_off(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors[f"module.{A_TENSOR}"] = tensors.pop(A_TENSOR)
    save_file(tensors, folder / WEIGHTS)
    refused(folder, f"lacks tensor {A_TENSOR}")


def refused(folder: Path, message: str) -> None:
    """Check that both the check before a run and loading raise CheckpointError."""
    for read in (PerceiverIO.check_pretrained, lambda folder: PerceiverIO.from_pretrained(str(folder))):
        with pytest.raises(CheckpointError, match=message):
            read(folder)


def leave_an_adapter(folder: Path) -> None:
    for file in list(folder.iterdir()):
        file.unlink()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    save_file({"base_model.model.x": torch.zeros(2)}, folder / "adapter_model.safetensors")


def add_an_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')


def move_into_trainer_folders(folder: Path) -> None:
    files = list(folder.iterdir())
    for step in ("checkpoint-500", "checkpoint-1000"):
        (folder / step).mkdir()
        for file in files:
            (folder / step / file.name).write_bytes(file.read_bytes())
    for file in files:
        file.unlink()


def truncate(count: int) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / WEIGHTS, count)


def instead_of_weights(name: str, content: bytes = b"x") -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / name).write_bytes(content)

    return replace


def save_as_training_state(folder: Path) -> None:
    torch.save({"state_dict": load_file(folder / WEIGHTS), "epoch": 3}, folder / BINARY)
    (folder / WEIGHTS).unlink()


def save_and_cut(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / BINARY)
    os.truncate(folder / BINARY, 20_000)
    (folder / WEIGHTS).unlink()


def move_an_adapter(folder: Path) -> None:
    leave_an_adapter(folder)
    (folder / "checkpoint-7").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).rename(folder / "checkpoint-7" / name)


def save_as_integers(folder: Path) -> None:
    change_tensor(folder, A_TENSOR, load_file(folder / WEIGHTS)[A_TENSOR].to(torch.int8))


def leave_a_dangling_link(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("../../blobs/abc")

    return change


MISTAKES: dict[str, tuple[Callable[[Path], None], str]] = {
    "adapter": (leave_an_adapter, r"adapter of PEFT \(LoRA.*merge_and_unload"),
    "adapter next to its model": (add_an_adapter, r"adapter of PEFT"),
    "Trainer's folder": (move_into_trainer_folders, r"folder of a Trainer; give .*/checkpoint-1000$"),
    "Git LFS pointer": (lambda folder: (folder / WEIGHTS).write_text(POINTER), "pointer of Git LFS.*git lfs pull"),
    "config as Git LFS pointer": (lambda folder: (folder / "config.json").write_text(POINTER), "pointer of Git LFS"),
    "cut within the tensors": (truncate(20_000), r"model.safetensors has 20,000 of [\d,]+ bytes: download it again"),
    "cut within the header": (truncate(500), r"model.safetensors ends within its header, after 500 bytes"),
    "empty file": (truncate(0), r"model.safetensors is empty"),
    "web page": (lambda folder: (folder / WEIGHTS).write_text("<!DOCTYPE html><p>Not found"), "is a web page"),
    "no architectures": (lambda folder: change_config(folder, architectures=None), r"architectures \(None\).*add it"),
    "architectures of another type": (lambda folder: change_config(folder, architectures=5), r"architectures \(5\)"),
    "cut pickle": (save_and_cut, r"pytorch_model\.bin lacks its end.*download it again"),
    "Trainer's folder of adapters": (move_an_adapter, r"folder of a Trainer; give .*/checkpoint-7$"),
    "state of a Trainer": (instead_of_weights("optimizer.pt"), "copy the weights next to config.json"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), r"no weights in .*neither model\.safetensors nor"),
    "Lightning's file": (instead_of_weights("last.ckpt"), r"last\.ckpt is a checkpoint of PyTorch Lightning"),
    "unfinished download": (instead_of_weights("model.safetensors.incomplete"), "download did not end"),
    "no index": (instead_of_weights("model-00001-of-00002.safetensors"), r"index model\.safetensors\.index\.json"),
    "TensorFlow": (instead_of_weights("tf_model.h5"), r"tf_model\.h5, which is not read: load it with transformers"),
    "bad index": (instead_of_weights("model.safetensors.index.json", b"{}"), "weight_map must give the file"),
    "missing shard": (
        instead_of_weights("model.safetensors.index.json", b'{"weight_map": {"a": "m-1.safetensors"}}'),
        r"names m-1\.safetensors, which is not in",
    ),
    "training state": (
        save_as_training_state,
        "dictionary of tensors, but it holds one under 'state_dict'",
    ),
    "other shapes": (lambda folder: change_config(folder, d_latents=64), r"has the shape .* config.json requires"),
    "impossible heads": (lambda folder: change_config(folder, num_self_attention_heads=5), r"config\.json: .*\(5\)"),
    "quantized": (save_as_integers, f"{A_TENSOR} has the type I8, which must be one of F64, F32"),
    "quantization": (lambda folder: change_config(folder, quantization_config={"bits": 4}), "quantization_config"),
    "dangling weights": (leave_a_dangling_link(WEIGHTS), r"is a link to \.\./\.\./blobs/abc, which does not exist"),
    "dangling config": (leave_a_dangling_link("config.json"), r"config\.json cannot be read: No such file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_refused_with_its_cause(folder: Path, mistake: str) -> None:
    change, message = MISTAKES[mistake]
    change(folder)
    refused(folder, message)


@pytest.mark.parametrize("size", [0, 7, 8, 100, 5000])
def test_damaged_weights_are_a_checkpoint_error(folder: Path, size: int) -> None:
    for content in (os.urandom(size), b"\x00" * size, b"\x10" + b"\x00" * 7 + b'{"a": {"x": 1}} ' + os.urandom(size)):
        (folder / WEIGHTS).write_bytes(content)
        refused(folder, WEIGHTS)


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_checkpoint_that_changes_while_it_is_read_is_refused_with_both_digests(folder: Path, name: str) -> None:

    def read() -> None:
        with unchanged(folder):
            if name == WEIGHTS:
                change_tensor(folder, A_TENSOR, torch.zeros(32))
            else:
                change_config(folder, num_blocks=2)

    before, message = digest(folder), r"changed while it was read: .* was \w{64}, now it is \w{64}$"
    with pytest.raises(CheckpointError, match=message) as caught:
        read()
    assert before in str(caught.value)


def test_checkpoint_that_was_only_touched_is_read(folder: Path) -> None:
    with unchanged(folder) as before:
        os.utime(folder / WEIGHTS)
    with unchanged(folder) as after:
        assert after == before
