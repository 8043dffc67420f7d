"""Initial weights with which every latent reads the surroundings of its own place, and every output query as well.

Otherwise a small model takes most of its training to find out where its inputs are. All weights are trained afterwards.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn


def sinusoids(places: int, channels: int) -> Tensor:
    """Return sines, then cosines, [places, channels] of each place's number, at frequencies up to half a turn."""
    angles = torch.arange(places)[:, None] * _frequencies(channels)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def shift(channels: int, by: int) -> Tensor:
    """Return the matrix [channels, channels] that turns the sinusoids of place i into those of place i + `by`."""
    angles = by * _frequencies(channels)
    sine, cosine = angles.sin().diag(), angles.cos().diag()
    return torch.cat([torch.cat([cosine, sine], dim=1), torch.cat([-sine, cosine], dim=1)])


def _frequencies(channels: int) -> Tensor:
    return math.pi * torch.linspace(0, 1, channels // 2 + 1)[1:] ** 1.5  # unequal steps: no two places are alike


def low_frequencies(dimensions: int, bands: int, kept: int, highest: int) -> Tensor:
    """Return the channels of height and width, `kept` bands each, of a Fourier position encoding of 2 or 3 dimensions.

    The encoding has the positions themselves, then `bands` sines per dimension, then as many cosines; time comes first.
    highest: number of the last band that is kept.
    """
    chosen = torch.linspace(0, highest, kept).round().long()
    parts = range(dimensions - 2, dimensions)
    return torch.cat([dimensions + (half + part) * bands + chosen for half in (0, dimensions) for part in parts])


def pooled(encoding: Tensor, side: int) -> Tensor:
    """Return the means [P, C] of squares of `side` places of an encoding [H, W, C]: the encodings of their centres."""
    return encoding.unfold(0, side, side).unfold(1, side, side).mean((-1, -2)).flatten(0, 1)


@torch.no_grad()
def attend_locally(
    model: Any, places: Tensor, content: int, inputs: Tensor, queries: Tensor | None = None, *, sharpness: float = 1.0
) -> None:
    """Set the latents, and queries, keys and values of the cross-attentions, of one head each, in place.

    places: encodings [P, C] of the places of the first P latents. inputs, queries: the channels int64 [C] of inputs and
    of output queries that hold these encodings; without `queries` the decoder is left alone. content: number of the
    inputs' first channels, which hold what is at a place: values start with these, not with the many positions.
    sharpness: the greater, the smaller are the surroundings.
    """
    core, own = model.perceiver, torch.arange(places.shape[1])
    core.embeddings.latents.mul_(0.1)
    core.embeddings.latents[: len(places), : places.shape[1]] = places
    encoder = core.encoder.cross_attention.attention.self
    _select(encoder.query, own, sharpness)
    _select(encoder.key, inputs)
    values = encoder.value.weight
    values[:, :content] *= math.sqrt(values.shape[1] / content)
    values[:, content:] *= 0.1
    if queries is not None:
        decoder = core.decoder.decoder.decoding_cross_attention.attention.self
        _select(decoder.query, queries)
        _select(decoder.key, own, sharpness)


def _select(projection: nn.Linear, channels: Tensor, factor: float = 1.0) -> None:
    """Let a projection give the channels, times `factor`, as its first outputs, and little else."""
    projection.weight.mul_(0.1)
    projection.weight[torch.arange(len(channels)), channels] = factor
