"""The tensors in a checkpoint's weight files: names, shapes and types at once, values on demand."""

import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.checkpoints import CheckpointError, check_content, weight_files

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types of weights that are read, under the names of safetensors."""

_NESTED = ("state_dict", "model_state_dict", "model")  # keys under which training programs store the weights


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a weight file. `dtype` is the name of one of `FLOATS`, or another name; `read` returns its values."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Tensor]


def open_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Return each tensor in `folder` by name; CheckpointError if a weight file cannot be opened."""
    tensors: dict[str, StoredTensor] = {}
    for path in weight_files(folder):
        check_content(path)
        tensors |= _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path)
    return tensors


def _open_safetensors(path: Path) -> dict[str, StoredTensor]:
    try:
        file, tensors = safe_open(path, framework="pt"), {}
        for name in file.keys():  # noqa: SIM118 (it has no iterator)
            header = file.get_slice(name)
            tensors[name] = StoredTensor(tuple(header.get_shape()), header.get_dtype(), partial(file.get_tensor, name))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    return tensors


def _open_pickle(path: Path) -> dict[str, StoredTensor]:
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        reason = str(error).partition(". ")[0].splitlines()[0]  # torch then explains how to run the file's code
        raise CheckpointError(f"{path} cannot be read, or contains more than tensors: {reason}") from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise CheckpointError(f"{path} must hold a dictionary of tensors{_nested_weights(tensors)}")
    names = {dtype: name for name, dtype in FLOATS.items()}
    return {
        str(name): StoredTensor(tuple(tensor.shape), names.get(tensor.dtype, str(tensor.dtype)), partial(_same, tensor))
        for name, tensor in tensors.items()
    }


def _nested_weights(content: object) -> str:
    """Return what to do if the file of a training program has the weights under a key."""
    keys = [key for key in _NESTED if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)]
    return f", but it holds one under {keys[0]!r}: save that alone" if keys else ""


def _same(tensor: Tensor) -> Tensor:
    return tensor
