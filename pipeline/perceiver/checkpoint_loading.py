"""Checkpoints: from files with Hugging Face's names to a model, every tensor accounted for."""

import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipeline.checkpoints import CheckpointError, read_json, weight_files
from pipeline.perceiver.state_dict_map import NEVER_READ, checkpoint_names


class Tensors(Mapping[str, Callable[[], Tensor]]):
    """The tensors of a checkpoint by name, each read from its file when called for."""

    def __init__(self, paths: list[Path]) -> None:
        self._readers: dict[str, Callable[[], Tensor]] = {}
        for path in paths:
            self._readers.update(_safetensors(path) if path.suffix == ".safetensors" else _pickled(path))

    def __getitem__(self, name: str) -> Callable[[], Tensor]:
        return self._readers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def check_weights(folder: Path) -> None:
    """CheckpointError unless each file with weights can be read, as far as it shows without reading a tensor."""
    Tensors(weight_files(folder))


def read_config(folder: Path) -> Any:
    """transformers' PerceiverConfig of the checkpoint in `folder`."""
    from transformers import PerceiverConfig

    values = read_json(folder, "config.json")
    if values.get("model_type", "perceiver") != "perceiver":
        raise CheckpointError(f"{folder / 'config.json'}: model_type {values['model_type']!r} must be 'perceiver'")
    try:
        return PerceiverConfig.from_dict(values)
    except Exception as error:  # transformers' validation has exceptions of its own; all mean the same here
        raise CheckpointError(f"{folder / 'config.json'} is not a Perceiver configuration: {error}") from error


def read_model_class(folder: Path) -> str:
    """The class a checkpoint was saved from, such as "PerceiverForOpticalFlow"."""
    names = read_json(folder, "config.json").get("architectures") or []
    if len(names) != 1 or not isinstance(names[0], str):
        raise CheckpointError(f"{folder / 'config.json'}: architectures ({names}) must name one class")
    return str(names[0])


@torch.no_grad()
def load_weights(model: nn.Module, folder: Path, *, names: Mapping[str, str], model_class: str) -> None:
    """Allocate the tensors of a model on the CPU and copy those of the checkpoint in `folder` into them.

    names: the checkpoint's names for prefixes of the model's, see `state_dict_map`.
    Raises CheckpointError naming the first tensor that is missing, misshapen or unexpected.
    """
    # `to_empty` does the same, but imports sympy: half of the time to load a small model.
    model._apply(lambda weight: torch.empty(weight.shape, dtype=weight.dtype))
    tensors = Tensors(weight_files(folder))
    unread = {name for name in tensors if not name.endswith(NEVER_READ)}
    for ours, target in model.state_dict(keep_vars=True).items():
        if ours.endswith(NEVER_READ):
            continue
        parts = checkpoint_names(ours, names)
        if missing := [name for name in parts if name not in tensors]:
            raise CheckpointError(f"{folder} lacks tensor {missing[0]}, which {model_class} needs")
        row = 0
        for name, shape in zip(parts, _shapes(model, ours, target), strict=True):
            part = tensors[name]()
            if tuple(part.shape) != shape:
                raise CheckpointError(
                    f"{folder}: tensor {name} is {tuple(part.shape)} and must be {shape} by its config.json"
                )
            (target.data if len(parts) == 1 else target.data[row : row + shape[0]]).copy_(part)
            row += shape[0] if shape else 0
        unread.difference_update(parts)
    if unread:
        raise CheckpointError(
            f"{folder} holds tensor {min(unread)}, which {model_class} does not have"
            + (f", and {len(unread) - 1} more" if len(unread) > 1 else "")
        )


def _shapes(model: nn.Module, ours: str, target: Tensor) -> list[tuple[int, ...]]:
    """The shapes of the checkpoint's tensors that make up our tensor `ours`: of a fused one, its parts."""
    parent, _, fused = ours.rpartition(".")[0].rpartition(".")
    if fused not in ("qkv", "kv"):
        return [tuple(target.shape)]
    return [(rows, *target.shape[1:]) for rows in cast("tuple[int, ...]", model.get_submodule(parent).split)]


def _safetensors(path: Path) -> dict[str, Callable[[], Tensor]]:
    try:
        file = safe_open(path, framework="pt")
        return {name: partial(file.get_tensor, name) for name in file.keys()}  # noqa: SIM118 (it has no iterator)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error


def _pickled(path: Path) -> dict[str, Callable[[], Tensor]]:
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        words = str(error).partition(". ")[0].splitlines()[0]  # torch goes on to say how the file could be run
        raise CheckpointError(f"{path} is not a file of tensors alone: {words}") from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise CheckpointError(f"{path} must hold a dictionary of tensors")
    return {str(name): partial(_same, tensor) for name, tensor in tensors.items()}


def _same(tensor: Tensor) -> Tensor:
    return tensor
