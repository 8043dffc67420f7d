"""Split batches and sequences into slices, and join the results."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


def even_slices(count: int, parts: int) -> list[slice]:
    """Split range(count) into `parts` consecutive slices whose lengths differ by at most one; some may be empty."""
    ends = [-(-count * number // parts) for number in range(parts + 1)]
    return [slice(begin, end) for begin, end in pairwise(ends)]


def slice_units(value: Any, units: slice, count: int) -> Any:
    """Select the given units from a tensor [count, ...] or a dict of such tensors.

    None and flat indices [P] apply to every unit and are returned unchanged.
    Raises ValueError if a tensor has another number of units than `count`.
    """
    if isinstance(value, Mapping):
        return {name: slice_units(each, units, count) for name, each in value.items()}
    if value is None or value.ndim == 1:
        return value
    if len(value) != count:
        raise ValueError(f"batch sizes differ: {tuple(value.shape)} has {len(value)} units, expected {count}")
    return value[units]


def concat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Concatenate tensors; a single tensor is returned without a copy."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim=dim)
