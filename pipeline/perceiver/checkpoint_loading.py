"""Load a Hugging Face checkpoint into a model, with every tensor accounted for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from pipeline.checkpoints import CheckpointError
from pipeline.perceiver.state_dict_map import STATE_DICT_MAPS, UNUSED_NAMES, checkpoint_names
from pipeline.perceiver.stored_tensors import FLOATS, StoredTensor, open_tensors

WRAPPERS = ("_orig_mod.", "module.", "model.")
"""Prefixes that torch.compile, DistributedDataParallel and PyTorch Lightning put before the names of a model."""


@dataclass(frozen=True, kw_only=True)
class MatchedWeights:
    """A checkpoint's tensors for each of ours, several for a fused projection. `prefix`: taken off their names."""

    sources: Mapping[str, list[StoredTensor]]
    prefix: str


@torch.no_grad()
def load_weights(model: nn.Module, folder: Path, model_class: str) -> str:
    """Allocate the tensors of a model on the CPU, in float32, and copy those of the checkpoint in `folder` into them.

    Returns the prefix that was taken off the checkpoint's names, "" for none. Raises CheckpointError, see
    `match_weights`.
    """
    matched = match_weights(model, folder, model_class)
    # `to_empty` does the same, but imports sympy: half of the time to load a small model.
    model._apply(lambda weight: torch.empty(weight.shape, dtype=weight.dtype))
    targets = model.state_dict(keep_vars=True)
    for ours, sources in matched.sources.items():
        rows = targets[ours].data.split([source.shape[0] for source in sources]) if len(sources) > 1 else ()
        for source, target in zip(sources, rows or (targets[ours].data,), strict=True):
            target.copy_(source.read())
    return matched.prefix


def removed_prefix(prefix: str) -> str:
    """Say that a prefix was taken off the names of all tensors."""
    return f"checkpoint: the names of all tensors begin with {prefix}, which was taken off"


def match_weights(model: nn.Module, folder: Path, model_class: str) -> MatchedWeights:
    """Find the tensors of a model, which may be on the meta device, in the checkpoint in `folder` by their headers.

    Raises CheckpointError naming the first tensor that is missing, misshapen, quantized or unexpected.
    """
    needed = _needed_tensors(model, model_class)
    shapes = {name: shape for names in needed.values() for name, shape in names.items()}
    tensors, prefix = _without_wrappers(open_tensors(folder), shapes)
    note = f" (after {prefix} was taken off its names)" if prefix else ""
    for name, shape in shapes.items():
        if name not in tensors:
            raise CheckpointError(f"{folder}{note} lacks tensor {name}, which {model_class} needs")
        if tensors[name].shape != shape:
            found = f"tensor {name} has the shape {tensors[name].shape}, but config.json requires {shape}"
            raise CheckpointError(f"{folder}: {found}: the weights are those of another configuration")
        if (dtype := tensors[name].dtype) not in FLOATS:
            allowed = ", ".join(FLOATS)
            raise CheckpointError(f"{folder}: tensor {name} has the type {dtype}, which must be one of {allowed}")
    if unread := _unread(tensors, shapes):
        more = f", and {len(unread) - 1} more" if len(unread) > 1 else ""
        raise CheckpointError(f"{folder}{note} holds tensor {min(unread)}, which {model_class} does not have{more}")
    return MatchedWeights(
        sources={ours: [tensors[name] for name in names] for ours, names in needed.items()}, prefix=prefix
    )


def _without_wrappers(
    tensors: dict[str, StoredTensor], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, StoredTensor], str]:
    """Take the prefixes of wrappers off all names, unless they match already; return the tensors and what was taken."""
    prefix = ""
    while not shapes.keys() <= tensors.keys() or _unread(tensors, shapes):
        wrapper = next((each for each in WRAPPERS if tensors and all(name.startswith(each) for name in tensors)), None)
        if wrapper is None:
            break
        tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
        prefix += wrapper
    return tensors, prefix


def _unread(tensors: Mapping[str, StoredTensor], shapes: Mapping[str, tuple[int, ...]]) -> set[str]:
    return {name for name in tensors.keys() - shapes.keys() if not name.endswith(UNUSED_NAMES)}


def _needed_tensors(model: nn.Module, model_class: str) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the checkpoint's names and shapes for each of our tensors."""
    needed = {}
    for ours, target in model.state_dict(keep_vars=True).items():
        if not ours.endswith(UNUSED_NAMES):
            names = checkpoint_names(ours, STATE_DICT_MAPS[model_class])
            needed[ours] = dict(zip(names, _part_shapes(model, ours, target), strict=True))
    return needed


def _part_shapes(model: nn.Module, ours: str, target: Tensor) -> list[tuple[int, ...]]:
    """Return the shapes of the checkpoint's tensors that make up our tensor `ours`: several for a fused projection."""
    parent, _, fused = ours.rpartition(".")[0].rpartition(".")
    if fused not in ("qkv", "kv"):
        return [tuple(target.shape)]
    return [(rows, *target.shape[1:]) for rows in cast("tuple[int, ...]", model.get_submodule(parent).split)]
