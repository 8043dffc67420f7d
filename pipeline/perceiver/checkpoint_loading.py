"""Load a Hugging Face checkpoint into a model, with every tensor accounted for."""

import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipeline.checkpoints import CheckpointError, weight_files
from pipeline.perceiver.state_dict_map import STATE_DICT_MAPS, UNUSED_NAMES, checkpoint_names

# Functions that read each tensor of a checkpoint from its file, by its name.
TensorReaders = dict[str, Callable[[], Tensor]]


@torch.no_grad()
def load_weights(model: nn.Module, folder: Path, model_class: str) -> None:
    """Allocate the tensors of a model on the CPU, in float32, and copy those of the checkpoint in `folder` into them.

    Raises CheckpointError naming the first tensor that is missing, misshapen or unexpected.
    """
    # `to_empty` does the same, but imports sympy: half of the time to load a small model.
    model._apply(lambda weight: torch.empty(weight.shape, dtype=weight.dtype))
    tensors = open_tensors(folder)
    unread = {name for name in tensors if not name.endswith(UNUSED_NAMES)}
    for ours, target in model.state_dict(keep_vars=True).items():
        if ours.endswith(UNUSED_NAMES):
            continue
        names, shapes = checkpoint_names(ours, STATE_DICT_MAPS[model_class]), _part_shapes(model, ours, target)
        if missing := [name for name in names if name not in tensors]:
            raise CheckpointError(f"{folder} lacks tensor {missing[0]}, which {model_class} needs")
        targets = [target.data] if len(names) == 1 else target.data.split([shape[0] for shape in shapes])
        for name, shape, rows in zip(names, shapes, targets, strict=True):
            tensor = tensors[name]()
            if (found := tuple(tensor.shape)) != shape:
                raise CheckpointError(
                    f"{folder}: tensor {name} has the shape {found}, but config.json requires {shape}"
                )
            rows.copy_(tensor)
        unread.difference_update(names)
    if unread:
        more = f", and {len(unread) - 1} more" if len(unread) > 1 else ""
        raise CheckpointError(f"{folder} holds tensor {min(unread)}, which {model_class} does not have{more}")


def _part_shapes(model: nn.Module, ours: str, target: Tensor) -> list[tuple[int, ...]]:
    """Return the shapes of the checkpoint's tensors that make up our tensor `ours`: several for a fused projection."""
    parent, _, fused = ours.rpartition(".")[0].rpartition(".")
    if fused not in ("qkv", "kv"):
        return [tuple(target.shape)]
    return [(rows, *target.shape[1:]) for rows in cast("tuple[int, ...]", model.get_submodule(parent).split)]


def open_tensors(folder: Path) -> TensorReaders:
    """Return a reader of each tensor in `folder`; CheckpointError if a weight file cannot be opened."""
    readers: TensorReaders = {}
    for path in weight_files(folder):
        readers |= _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path)
    return readers


def _open_safetensors(path: Path) -> TensorReaders:
    try:
        file = safe_open(path, framework="pt")
        return {name: partial(file.get_tensor, name) for name in file.keys()}  # noqa: SIM118 (it has no iterator)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error


def _open_pickle(path: Path) -> TensorReaders:
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        reason = str(error).partition(". ")[0].splitlines()[0]  # torch then explains how to run the file's code
        raise CheckpointError(f"{path} cannot be read, or contains more than tensors: {reason}") from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise CheckpointError(f"{path} must hold a dictionary of tensors")
    return {str(name): partial(torch.as_tensor, tensor) for name, tensor in tensors.items()}
