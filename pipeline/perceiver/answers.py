"""A decoder's outputs by products of weights that were formed when the model was loaded: see `folding`.

Scores of one head are q·k = (W_q x̂ + b)·k, so W_q can go to the few latents; and where x̂ is made of positions and
constants alone, it lies in a space of fewer dimensions than the query has channels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.perceiver.attend import attend
from pipeline.perceiver.attention import CrossAttention, CrossLayer
from pipeline.perceiver.constants import Constant
from pipeline.perceiver.folding import Affine, NarrowTail, Tail, filling, normalised, with_one
from pipeline.perceiver.positions import FourierPositions
from pipeline.perceiver.queries import InputQueries, InputsAt, PositionQueries, batched

if TYPE_CHECKING:
    from pipeline.perceiver.decoders import Output

ROWS = 1 << 15  # queries that are made at a time
FEATURE_BYTES = 400 << 20  # queries of a whole output are kept where they fit: those of a clip in bfloat16 do


class Asked(Protocol):
    """What queries are made of, and what latents must be made into so that both give scores."""

    scale: float | None

    def queries(self, points: Tensor, like: Tensor, inputs_at: InputsAt | None) -> Tensor:
        """[B or 1, P, F] at flat indices [P] or [B, P]."""
        ...


class Projected(nn.Module):
    """Queries as the layer projects them: nothing is folded but what never changes."""

    def __init__(self, source: PositionQueries, layer: CrossLayer) -> None:
        super().__init__()
        self.source, self.scale = source, None
        self._layer = (layer,)

    def queries(self, points: Tensor, like: Tensor, inputs_at: InputsAt | None) -> Tensor:  # noqa: ARG002
        return batched(self.source.projected(points, like, self._layer[0]))


class Normalised(nn.Module):
    """Queries made of inputs: x̂ and a 1, whose product with the latents' part holds all that is constant."""

    scale = 1.0

    def __init__(self, source: InputQueries, eps: float) -> None:
        super().__init__()
        self.source, self.channels, self.eps = source, source.channels, eps
        self.extra = 1 + filling(self.channels + 1)

    def basis(self) -> Tensor:
        """x̂ [E] of the features [F - 1] without the 1."""
        return torch.eye(self.channels, dtype=torch.float64)

    def queries(self, points: Tensor, like: Tensor, inputs_at: InputsAt | None) -> Tensor:  # noqa: ARG002
        features = F.pad(normalised(self.source.at(points, inputs_at), self.eps), (0, self.extra))
        features[..., self.channels] = 1
        return features


class Positional(nn.Module):
    """Queries made of Fourier positions p and constants c: x̂ = ([p; c] - μ) / σ is linear in [p / σ; 1 / σ; -μ / σ].

    p is taken from a table a dimension, so that its waves are computed once for each row, column and frame.
    """

    scale = 1.0

    def __init__(self, source: PositionQueries, eps: float) -> None:
        super().__init__()
        assert isinstance(source.positions, FourierPositions)
        self.source, self.positions, self.eps = source, source.positions, eps
        self.order = [column for axis in range(len(source.index_dims)) for column in self.positions.columns(axis)]
        self.channels = len(self.order) + 2
        self.extra = filling(self.channels + 1)
        padding = source.padding
        self._constants = torch.zeros(0, dtype=torch.float64) if padding is None else padding[0].detach().double()
        self._sum, self._squares = float(self._constants.sum()), float(self._constants.square().sum())
        self._all = Constant(FEATURE_BYTES)

    def basis(self) -> Tensor:
        """x̂ [E] of the features [F - 1] without the 1."""
        basis = torch.zeros(self.source.channels, self.channels, dtype=torch.float64)
        basis[self.order, range(len(self.order))] = 1
        basis[len(self.order) :, -2] = self._constants
        basis[:, -1] = 1
        return basis

    def queries(self, points: Tensor, like: Tensor, inputs_at: InputsAt | None) -> Tensor:  # noqa: ARG002
        width = self.channels + 1 + self.extra
        if self.source.count * width * like.element_size() > FEATURE_BYTES:
            return batched(self._features(points, like))

        def every() -> Tensor:
            features = like.new_empty(self.source.count, width)
            for begin in range(0, self.source.count, ROWS):  # in float32 all of them take twice as much, several times
                end = min(begin + ROWS, self.source.count)
                features[begin:end] = self._features(torch.arange(begin, end, device=like.device), like)
            return features

        return batched(self._all.get(like, "features", every)[points])

    def _features(self, points: Tensor, like: Tensor) -> Tensor:
        places = torch.unravel_index(points, self.source.index_dims)
        tables = self.positions.along(self.source.index_dims, like)
        parts = [table[place] for table, place in zip(tables, places, strict=True)]
        sums = [part.sum(dim=-1, keepdim=True) for part in parts]
        squares = [part.square().sum(dim=-1, keepdim=True) for part in parts]
        mean = (torch.stack(sums).sum(dim=0) + self._sum) / self.source.channels
        square = (torch.stack(squares).sum(dim=0) + self._squares) / self.source.channels
        root = torch.rsqrt(square - mean.square() + self.eps)
        ones = torch.ones_like(root)
        features = torch.cat([*(part * root for part in parts), root, -mean * root, ones], dim=-1)
        return F.pad(features, (0, self.extra)).to(like.dtype)


class Answer(nn.Module):
    """One output from the latents, with as few products a query as its shape allows."""

    def __init__(self, layer: CrossLayer, final: nn.Linear | None, output: Output) -> None:
        super().__init__()
        attention, like = layer.attention, layer.attention.kv.weight
        self.num_heads, self.eps = attention.num_heads, attention.norm_inputs.eps
        kv = Affine.of(attention.kv).after(Affine.scale_of(attention.norm_inputs))
        keys, values = kv.rows(0, attention.split[0]), kv.rows(attention.split[0])
        self.asked = _asked(layer, output)
        if not isinstance(self.asked, Projected):
            keys = _scored_by(self.asked, attention).after(keys)
        after = output.postprocessor.affine(layer.mlp.down.out_features)
        if final is not None:
            after = output.postprocessor.affine(final.out_features).after(Affine.of(final))
        out = Affine.of(attention.out)
        width, gathered = out.weight.shape
        self.tail: nn.Module
        if attention.num_heads > 1:
            self.tail = Tail(layer.mlp, after, out, like)
        elif width <= gathered:
            values = out.after(values)
            self.tail = Tail(layer.mlp, after, None, like)
        else:
            values = with_one(values)
            self.tail = NarrowTail(layer.mlp, after, out, like)
        self.keys, self.values = keys.linear(like), values.linear(like)

    @staticmethod
    def pays(layer: CrossLayer, final: nn.Linear | None, output: Output) -> bool:
        """Whether there is no residual past the tail, and what follows it is narrower than the query."""
        channels = layer.mlp.down.out_features
        width = output.postprocessor.affine(channels if final is None else final.out_features).weight.shape[0]
        known = layer.attention.num_heads == 1 or isinstance(output.queries, PositionQueries)
        return known and not layer.attention.query_residual and width < channels and output.queries.count > 1

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Keys [B, N, F] and values [B, N, V] of latents [B, N, D]."""
        x = normalised(latents, self.eps)
        return self.keys(x), self.values(x)

    def chunk(self, keys: Tensor, values: Tensor, points: Tensor, inputs_at: InputsAt | None) -> Tensor:
        """[B, P, out] at flat indices [P] or [B, P]."""
        q = self.asked.queries(points, keys, inputs_at)
        return self.tail(attend(q, keys, values, self.num_heads, scale=self.asked.scale))


def _asked(layer: CrossLayer, output: Output) -> Projected | Normalised | Positional:
    source, eps = output.queries, layer.attention.norm_queries.eps
    if isinstance(source, InputQueries):
        return Normalised(source, eps)
    if layer.attention.num_heads == 1 and isinstance(source.positions, FourierPositions):
        found = Positional(source, eps)
        if found.channels < layer.attention.split[0]:
            return found
    return Projected(source, layer)


def _scored_by(asked: Normalised | Positional, attention: CrossAttention) -> Affine:
    """From keys [K] to what the queries' features [F] are multiplied with, 1 / √K in it."""
    query = Affine.of(attention.query).after(Affine.scale_of(attention.norm_queries))
    weight = torch.cat([query.weight @ asked.basis(), query.bias[:, None]], dim=1) / math.sqrt(attention.split[0])
    weight = F.pad(weight, (0, filling(weight.shape[1]))).T
    return Affine(weight, weight.new_zeros(len(weight)))
