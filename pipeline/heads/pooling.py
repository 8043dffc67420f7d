"""Pooling: from the latents of a unit to one vector, the features of a linear probe."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from pipeline.heads.head import Tensor

Pooling: TypeAlias = Literal["mean", "statistics"]
"""mean: of the latents. statistics: mean, standard deviation and maximum, one after the other."""


def pool(latents: Tensor, counts: Sequence[int], pooling: Pooling) -> Tensor:
    """Return float32 [B, F] of latents [T, N, D], of which unit i has `counts[i]`; F is D, or 3 D for statistics.

    A unit with several arrays of latents, a frame in tiles or a text in windows, is pooled over all of them.
    """
    import torch

    values = latents.float()
    means = _per_unit(values.mean(dim=1), counts)
    if pooling == "mean":
        return means
    squares = _per_unit(values.square().mean(dim=1), counts)
    maxima = values.amax(dim=1)
    maxima = torch.stack([part.amax(dim=0) for part in maxima.split(list(counts))])
    return torch.cat([means, (squares - means.square()).clamp(min=0).sqrt(), maxima], dim=1)


def _per_unit(values: Tensor, counts: Sequence[int]) -> Tensor:
    """Return means [B, D] over the rows [T, D] of each unit."""
    import torch

    return torch.stack([part.mean(dim=0) for part in values.split(list(counts))])
