"""Checkpoints that a run refuses: how each is made from a sound one, and what the message says.

In a message CKPT is the folder, and … stands for any text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file, save_file

WEIGHTS, BINARY = "model.safetensors", "pytorch_model.bin"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12345\n"
A_TENSOR = "perceiver.encoder.self_attends.1.mlp.dense1.bias"
A_KEY = "perceiver.encoder.self_attends.0.attention.self.key.weight"

Change: TypeAlias = Callable[[Path], None]


def change_config(**values: object) -> Change:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def change_tensors(**tensors: torch.Tensor | None) -> Change:
    """Replace, add or remove tensors of the weights."""

    def change(folder: Path) -> None:
        kept = {name: tensor for name, tensor in (load_file(folder / WEIGHTS) | tensors).items() if tensor is not None}
        save_file(kept, folder / WEIGHTS)

    return change


def write(name: str, content: bytes | str | Mapping[str, Any] | list[Any]) -> Change:
    data = content if isinstance(content, bytes | str) else json.dumps(content)
    return lambda folder: (folder / name).write_bytes(data.encode() if isinstance(data, str) else data) and None


def truncate(name: str, count: int) -> Change:
    return lambda folder: os.truncate(folder / name, count)


def remove(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def instead_of_weights(name: str, content: bytes = b"x") -> Change:
    def replace(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / name).write_bytes(content)

    return replace


def leave_a_dangling_link(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("../../blobs/abc")

    return change


def replace_by(make: Callable[[Path], object], name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def link_to_a_device(name: str) -> Change:
    """Replace a file by a link to what never ends."""
    return replace_by(lambda path: path.symlink_to("/dev/zero"), name)


def index_that_is_a_pipe(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / f"{WEIGHTS}.index.json")


def lengthen(name: str) -> Change:
    """Lengthen a file to gigabytes, which take no place on the disk."""
    return lambda folder: os.truncate(folder / name, 5_000_000_000)


def index_of_gigabytes(folder: Path) -> None:
    instead_of_weights(f"{WEIGHTS}.index.json", b"{")(folder)
    lengthen(f"{WEIGHTS}.index.json")(folder)


def with_header_of(size: int) -> Change:
    def change(folder: Path) -> None:
        with (folder / WEIGHTS).open("r+b") as file:
            file.write(size.to_bytes(8, "little"))
            file.truncate(size + 1000)

    return change


def change_text(name: str, entry: str) -> Change:
    """Add an entry to a JSON object, which json.dumps might not write."""

    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(f"{{{entry}, {path.read_text().lstrip()[1:]}")

    return change


def rename_tensors(prefix: str, *left: str) -> Change:
    def change(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        save_file({name if name in left else prefix + name: each for name, each in tensors.items()}, folder / WEIGHTS)

    return change


def leave_an_adapter(folder: Path) -> None:
    for file in list(folder.iterdir()):
        file.unlink()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    save_file({"base_model.model.x": torch.zeros(2)}, folder / "adapter_model.safetensors")


def move_an_adapter(folder: Path) -> None:
    leave_an_adapter(folder)
    (folder / "checkpoint-7").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).rename(folder / "checkpoint-7" / name)


def move_into_trainer_folders(folder: Path) -> None:
    files = list(folder.iterdir())
    for step in ("checkpoint-500", "checkpoint-1000"):
        (folder / step).mkdir()
        for file in files:
            (folder / step / file.name).write_bytes(file.read_bytes())
    for file in files:
        file.unlink()


def save_as_training_state(folder: Path) -> None:
    torch.save({"state_dict": load_file(folder / WEIGHTS), "epoch": 3}, folder / BINARY)
    (folder / WEIGHTS).unlink()


def save_and_cut(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / BINARY)
    os.truncate(folder / BINARY, 20_000)
    (folder / WEIGHTS).unlink()


def save_as_integers(folder: Path) -> None:
    change_tensors(**{A_TENSOR: load_file(folder / WEIGHTS)[A_TENSOR].to(torch.int8)})(folder)


def wrap_and_add(folder: Path) -> None:
    rename_tensors("module.")(folder)
    change_tensors(**{"module.criterion.weight": torch.zeros(3)})(folder)


def wrap_and_add_in_a_pickle(folder: Path) -> None:
    wrap_and_add(folder)
    torch.save(load_file(folder / WEIGHTS), folder / BINARY)
    (folder / WEIGHTS).unlink()


NO_WEIGHTS = "no weights in CKPT: neither model.safetensors nor pytorch_model.bin"
MODELS: dict[str, tuple[Change, str]] = {
    "adapter": (leave_an_adapter, "CKPT has an adapter of PEFT (LoRA … merge_and_unload()"),
    "adapter next to its model": (write("adapter_config.json", {"peft_type": "LORA"}), "CKPT has an adapter of PEFT"),
    "Trainer's folder": (move_into_trainer_folders, "the folder of a Trainer; give … CKPT/checkpoint-1000"),
    "Trainer's folder of adapters": (move_an_adapter, "the folder of a Trainer; give … CKPT/checkpoint-7"),
    "Git LFS pointer": (write(WEIGHTS, POINTER), f"CKPT/{WEIGHTS} is a pointer of Git LFS … git lfs pull"),
    "config as Git LFS pointer": (write("config.json", POINTER), "CKPT/config.json is a pointer of Git LFS"),
    "cut within the tensors": (truncate(WEIGHTS, 20_000), f"CKPT/{WEIGHTS} has 20,000 of … bytes: download it again"),
    "cut within the header": (truncate(WEIGHTS, 500), f"CKPT/{WEIGHTS} ends within its header, after 500 bytes"),
    "empty file": (truncate(WEIGHTS, 0), f"CKPT/{WEIGHTS} is empty"),
    "web page": (write(WEIGHTS, "<!DOCTYPE html><p>Not found"), f"CKPT/{WEIGHTS} is a web page"),
    "noise": (write(WEIGHTS, os.urandom(5000)), f"CKPT/{WEIGHTS}"),
    "cut pickle": (save_and_cut, f"CKPT/{BINARY} lacks its end … download it again"),
    "training state": (save_as_training_state, "dictionary of tensors, but it holds one under 'state_dict'"),
    "no weights": (remove(WEIGHTS), f"{NO_WEIGHTS}: copy the weights next to config.json"),
    "state of a Trainer": (instead_of_weights("optimizer.pt"), f"{NO_WEIGHTS}: copy the weights next to config.json"),
    "Lightning's file": (instead_of_weights("last.ckpt"), "last.ckpt is a checkpoint of PyTorch Lightning"),
    "unfinished download": (instead_of_weights(f"{WEIGHTS}.incomplete"), f"{NO_WEIGHTS} … download did not end"),
    "no index": (instead_of_weights("model-00001-of-00002.safetensors"), f"index {WEIGHTS}.index.json is missing"),
    "TensorFlow": (instead_of_weights("tf_model.h5"), "tf_model.h5, which is not read: load it with transformers"),
    "bad index": (instead_of_weights(f"{WEIGHTS}.index.json", b"{}"), "weight_map must give the file"),
    "missing shard": (
        instead_of_weights(f"{WEIGHTS}.index.json", b'{"weight_map": {"a": "m-1.safetensors"}}'),
        f"CKPT/{WEIGHTS}.index.json names m-1.safetensors, which is not in CKPT",
    ),
    "dangling weights": (leave_a_dangling_link(WEIGHTS), "is a link to ../../blobs/abc, which does not exist"),
    "missing tensor": (change_tensors(**{A_TENSOR: None}), f"CKPT lacks tensor {A_TENSOR}"),
    "unexpected tensor": (
        change_tensors(**{"perceiver.extra.weight": torch.zeros(3)}),
        "CKPT holds tensor perceiver.extra.weight",
    ),
    "misshapen tensor": (
        change_tensors(**{A_TENSOR: torch.zeros(31)}),
        f"CKPT: tensor {A_TENSOR} has the shape (31,), but config.json requires (32,)",
    ),
    "misshapen part of a fused tensor": (
        change_tensors(**{A_KEY: torch.zeros(16, 32)}),
        f"CKPT: tensor {A_KEY} has the shape (16, 32)",
    ),
    "other shapes": (change_config(d_latents=64), "CKPT: tensor … has the shape … but config.json requires"),
    "fewer layers": (
        change_config(num_self_attends_per_block=1),
        "CKPT holds tensor perceiver.encoder.self_attends.1.",
    ),
    "quantized": (save_as_integers, f"CKPT: tensor {A_TENSOR} has the type I8, which must be one of F64, F32"),
    "prefix of a wrapper, and another tensor": (
        wrap_and_add,
        "CKPT (after module. was taken off its names) holds tensor criterion.weight",
    ),
    "prefix of a wrapper, and another tensor, in a pickle": (
        wrap_and_add_in_a_pickle,
        "CKPT (after module. was taken off its names) holds tensor criterion.weight",
    ),
    "prefix of only some names": (rename_tensors("module.", A_TENSOR), "CKPT lacks tensor"),
    "no config": (
        remove("config.json"),
        "no config.json in CKPT: a checkpoint is a folder that save_pretrained() wrote",
    ),
    "cut config": (truncate("config.json", 100), "CKPT/config.json is not readable JSON"),
    "dangling config": (leave_a_dangling_link("config.json"), "CKPT/config.json is a link to ../../blobs/abc, which"),
    "config that is a pipe": (replace_by(os.mkfifo, "config.json"), "CKPT/config.json is a named pipe: a checkpoint"),
    "config that is a device": (link_to_a_device("config.json"), "CKPT/config.json is a device: a checkpoint has"),
    "config that is a folder": (replace_by(Path.mkdir, "config.json"), "CKPT/config.json is a folder: a checkpoint"),
    "weights that are a pipe": (replace_by(os.mkfifo, WEIGHTS), f"CKPT/{WEIGHTS} is a named pipe: a checkpoint has"),
    "weights that are a device": (link_to_a_device(WEIGHTS), f"CKPT/{WEIGHTS} is a device: a checkpoint has regular"),
    "index that is a pipe": (index_that_is_a_pipe, f"CKPT/{WEIGHTS}.index.json is a named pipe: a checkpoint has"),
    "config of gigabytes": (
        lengthen("config.json"),
        "CKPT/config.json has 5,000,000,000 bytes, at most 8,388,608 are read: it is not what save_pretrained() writes",
    ),
    "index of gigabytes": (
        index_of_gigabytes,
        f"CKPT/{WEIGHTS}.index.json has 5,000,000,000 bytes, at most 8,388,608 are read",
    ),
    "header of megabytes": (
        with_header_of(9_000_000),
        f"CKPT/{WEIGHTS} has a header of 9,000,000 bytes, at most 8,388,608 are read: download it again",
    ),
    "deeply nested config": (
        write("config.json", "[" * 100_000),
        "CKPT/config.json is not readable JSON: it is nested",
    ),
    **{
        f"config with {value}": (change_text("config.json", f'"absurd": {value}'), f"CKPT/config.json: {words}")
        for value, words in [
            ("NaN", "the number NaN must be finite"),
            ("-Infinity", "the number -Infinity must be finite"),
            ("1e999", "the number 1e999 must be finite"),
        ]
    },
    "number of 5,000 digits": (
        change_text("config.json", f'"num_latents": {"9" * 5000}'),
        "CKPT/config.json is not readable JSON: Exceeds the limit",
    ),
    **{
        f"{name} of {value}": (
            change_config(**{name: value}),
            f"CKPT/config.json: {name} … must be at least … and at most",
        )
        for name, value in [
            ("num_latents", 10**12),
            ("num_latents", 0),
            ("d_latents", 10**300),
            ("d_model", -1),
            ("num_blocks", 10**9),
            ("num_self_attends_per_block", 10**9),
            ("num_self_attention_heads", 0),
            ("self_attention_widening_factor", 10**9),
            ("vocab_size", 10**12),
            ("max_position_embeddings", 10**12),
            ("num_labels", 10**9),
            ("image_size", 10**9),
            ("train_size", [10**9, 2]),
            ("num_frames", 0.5),
        ]
    },
    "large tile": (
        change_config(train_size=[100_000, 100_000]),
        "CKPT/config.json: train_size has 10,000,000,000 pixels or samples, at most 67,108,864 are supported",
    ),
    "no architectures": (change_config(architectures=None), "CKPT/config.json: architectures (None) … add it"),
    "empty architectures": (change_config(architectures=[]), "CKPT/config.json: architectures ([]) … add it"),
    "architectures of another type": (change_config(architectures=5), "CKPT/config.json: architectures (5)"),
    "another class": (change_config(architectures=["BertForMaskedLM"]), "BertForMaskedLM"),
    "another kind of config": (change_config(model_type="bert"), "CKPT/config.json: model_type 'bert' must be"),
    "impossible heads": (change_config(num_self_attention_heads=5), "CKPT/config.json … (5)"),
    "quantization": (change_config(quantization_config={"bits": 4}), "CKPT/config.json: quantization_config is not"),
}
"""Models of text that neither a run nor `PerceiverIO.from_pretrained` accepts."""

TEXT_SETTINGS: dict[str, tuple[Change, str]] = {
    f"{name} with {json.dumps(content)}": (write(name, content), f"CKPT/{name}{words}")
    for name, content, words in [
        ("added_tokens.json", {"[NEW]": 262}, ": token '[NEW]' with the id 262"),
        ("added_tokens.json", {"[PAD]": 3}, ": token '[PAD]' with the id 3"),
        ("special_tokens_map.json", {"mask_token": "<mask>"}, ": mask_token ('<mask>') must be '[MASK]'"),
        ("special_tokens_map.json", {"cls_token": {"content": "[CLS]", "lstrip": True}}, ": cls_token"),
        ("special_tokens_map.json", {"additional_special_tokens": ["<a>"]}, ": the special tokens ['<a>']"),
        ("tokenizer_config.json", {"additional_special_tokens": ["<a>"]}, ": the special tokens ['<a>']"),
        ("tokenizer_config.json", {"extra_special_tokens": {"image_token": "<a>"}}, ": the special tokens ['<a>']"),
        ("tokenizer_config.json", {"unk_token": {"content": "[UNK]"}}, ": the special tokens ['[UNK]']"),
        ("tokenizer_config.json", {"split_special_tokens": True}, ": split_special_tokens"),
        ("tokenizer_config.json", {"added_tokens_decoder": [{"content": "[PAD]"}]}, " has values of other types"),
        ("tokenizer_config.json", {"init_inputs": ["<pad>"]}, ": init_inputs"),
        ("tokenizer_config.json", {"tokenizer_class": "BertTokenizer"}, ": tokenizer_class ('BertTokenizer')"),
        ("tokenizer_config.json", {"model_max_length": "long"}, ": model_max_length ('long') must be a number"),
        ("tokenizer_config.json", {"truncation_side": "middle"}, ": truncation_side ('middle') must be"),
        ("tokenizer.json", {"added_tokens": [{"id": 262, "content": "[NEW]"}]}, ": token '[NEW]'"),
    ]
} | {
    "config.json of another tokenizer": (
        change_config(tokenizer_class="BertTokenizer"),
        "CKPT/config.json: tokenizer_class ('BertTokenizer')",
    ),
    "labels as a list": (change_config(id2label=["a", "b"]), "CKPT/config.json"),
    "tokenizer_config.json that is a list": (write("tokenizer_config.json", [1]), "must hold a JSON object"),
    "added_tokens.json that is cut": (write("added_tokens.json", '{"[P'), "added_tokens.json is not readable JSON"),
}
"""Files next to a model of text that its head refuses."""

IMAGE_SETTINGS: dict[str, tuple[Change, str]] = {
    f"{name} with {json.dumps(content)}": (write(name, content), f"CKPT/{name}: {words}")
    for name, content, words in [
        ("preprocessor_config.json", {"image_processor_type": "ViTImageProcessor"}, "… ('ViTImageProcessor') must be"),
        ("preprocessor_config.json", {"feature_extractor_type": "ViTFeatureExtractor"}, "… ('ViTImageProcessor')"),
        ("preprocessor_config.json", {"crop_size": {"shortest_edge": 9}}, "crop_size … must have height and width"),
        ("preprocessor_config.json", {"image_std": [1, 0, 1]}, "image_std [1.0, 0.0, 1.0] must not contain 0"),
        ("processor_config.json", {"image_processor": {"image_processor_type": "ViTImageProcessor"}}, "… ('ViTImage"),
        ("processor_config.json", {"image_processor": {"size": "large"}}, "size ('large')"),
        ("processor_config.json", {"image_processor": [1]}, "image_processor ([1]) must be an object"),
        ("preprocessor_config.json", {"size": 10**9}, "size … must be at most 8,192 pixels"),
        ("preprocessor_config.json", {"size": 8000, "crop_size": 1}, "size … must be at most 10 times crop_size"),
        (
            "preprocessor_config.json",
            {"image_mean": [10**400, 0, 0]},
            "image_mean … must be from -1,000,000 to 1,000,000",
        ),
        (
            "preprocessor_config.json",
            {"image_std": [1e-300, 1, 1]},
            "image_std [1e-300, 1.0, 1.0] must be at least 1e-06",
        ),
        ("preprocessor_config.json", {"rescale_factor": 1e300}, "rescale_factor (1e+300) must be from -1,000,000"),
        ("preprocessor_config.json", {"rescale_factor": float("nan")}, "the number NaN must be finite"),
    ]
} | {
    "preprocessor_config.json that is a pipe": (
        replace_by(os.mkfifo, "preprocessor_config.json"),
        "CKPT/preprocessor_config.json is a named pipe: a checkpoint has regular files only",
    ),
    "preprocessor_config.json of gigabytes": (
        lengthen("preprocessor_config.json"),
        "CKPT/preprocessor_config.json has 5,000,000,000 bytes",
    ),
    "config.json of another image processor": (
        change_config(image_processor_type="ViTImageProcessor"),
        "CKPT/config.json: image_processor_type ('ViTImageProcessor') must be",
    ),
}
"""Files next to a model of images that its head refuses."""
