"""A decoder's outputs by products of weights that were formed when the model was loaded: see `folding`.

Scores of one head are q·k = (W_q x̂ + b)·k, so W_q can go to the few latents; and where x̂ is made of positions and
constants alone, it lies in a space of fewer dimensions than the query has channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.perceiver.attention_kernels import attend
from pipeline.perceiver.attention_layers import CrossAttention, CrossLayer
from pipeline.perceiver.grid_factorization import Channels, Grid, filling
from pipeline.perceiver.positions import FourierPositions
from pipeline.perceiver.postprocessors import Postprocessor
from pipeline.perceiver.preprocessors import Placed
from pipeline.perceiver.queries import InputQueries, PositionQueries, batched
from pipeline.perceiver.tensor_cache import Constant
from pipeline.perceiver.weight_folding import Affine, NarrowTail, Tail, normalised, with_direct, with_one

RUN = 256  # queries that follow each other, on average, for which it pays to go along the rows of their grid


class Asked(Protocol):
    """What queries are made of, and what latents must be made into so that both give scores."""

    scale: float | None

    def queries(self, points: Tensor, like: Tensor, placed: Placed | None) -> Tensor:
        """[B or 1, P, F] at flat indices [P] or [B, P]."""
        ...


class Projected(nn.Module):
    """Queries as the layer projects them: nothing is folded but what never changes."""

    def __init__(self, source: PositionQueries, layer: CrossLayer) -> None:
        super().__init__()
        self.source, self.scale = source, None
        self._layer = (layer,)

    def queries(self, points: Tensor, like: Tensor, placed: Placed | None) -> Tensor:  # noqa: ARG002
        return batched(self.source.projected(points, like, self._layer[0]))


class OnGrid(nn.Module):
    """Queries x̃ = x / σ at the places of a grid: `order` has the channels of x, those that change along a row first,
    and [x̃; 1] times the latents' part is the score. The latents' part of x̃ is centred, since x̂ = x̃ - mean x̃."""

    scale = 1.0

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.order = list(order)
        self.extra = 1 + filling(len(self.order) + 1)

    def with_one(self, x: Tensor) -> Tensor:
        """[..., F] with the 1 and as many zeros as fill up."""
        x = F.pad(x, (0, self.extra))
        x[..., len(self.order)] = 1
        return x


class Normalised(OnGrid):
    """Queries made of inputs."""

    def __init__(self, source: InputQueries, eps: float) -> None:
        channels = Channels.of(source.positions, features=source.features, channels=source.channels)
        super().__init__([*channels.column, *channels.row])
        self.source, self.eps = source, eps

    def basis(self) -> Tensor:
        """x̂ [E] of x̃."""
        return Affine.centring(self.source.channels).weight[:, self.order]

    def grid(self, like: Tensor, placed: Placed | None) -> Grid | None:  # noqa: ARG002
        """Where they lie; None where the inputs do not lie on all of it."""
        return None if placed is None or placed.begin else placed.grid(self.eps)

    def queries(self, points: Tensor, like: Tensor, placed: Placed | None) -> Tensor:  # noqa: ARG002
        return self.with_one(normalised(self.source.at(points, placed), self.eps)[..., self.order])


class Positional(OnGrid):
    """Queries made of Fourier positions and constants, which are one channel in x̃."""

    def __init__(self, source: PositionQueries, eps: float) -> None:
        assert isinstance(source.positions, FourierPositions)
        positions = source.positions
        channels = Channels.of(positions, features=0, channels=positions.channels)
        super().__init__([*channels.column, *channels.row, positions.channels])
        self.source, self.positions, self.eps = source, positions, eps
        self._grid: Constant[Grid] = Constant()

    def basis(self) -> Tensor:
        """x̂ [E] of x̃."""
        width, padding = self.positions.channels, self.source.padding
        basis = torch.zeros(self.source.channels, width + 1, dtype=torch.float64)
        basis[range(width), range(width)] = 1
        if padding is not None:
            basis[width:, width] = padding[0].double()
        return (Affine.centring(self.source.channels).weight @ basis)[:, self.order]

    def grid(self, like: Tensor, placed: Placed | None = None) -> Grid:  # noqa: ARG002
        """Where they lie."""
        source = self.source
        arguments: dict[str, Any] = {"whole": False, "padding": source.padding, "eps": self.eps, "one": True}
        return self._grid.get(like, "grid", lambda: Grid(self.positions, source.index_dims, like, **arguments))

    def queries(self, points: Tensor, like: Tensor, placed: Placed | None) -> Tensor:  # noqa: ARG002
        return batched(self.with_one(self.grid(like).at(points).to(like.dtype)))


class Answer(nn.Module):
    """One output from the latents, with as few products a query as its shape allows."""

    def __init__(
        self,
        layer: CrossLayer,
        final: nn.Linear | None,
        queries: PositionQueries | InputQueries,
        postprocessor: Postprocessor,
    ) -> None:
        super().__init__()
        attention, like = layer.attention, layer.attention.kv.weight
        self.num_heads, self.eps = attention.num_heads, attention.norm_inputs.eps
        kv = Affine.of(attention.kv).after(Affine.scale_of(attention.norm_inputs))
        keys, values = kv.rows(0, attention.split[0]), kv.rows(attention.split[0])
        self.asked = _asked(layer, queries)
        if not isinstance(self.asked, Projected):
            keys = _scored_by(self.asked, attention).after(keys)
        after = postprocessor.affine(layer.mlp.down.out_features)
        if final is not None:
            after = postprocessor.affine(final.out_features).after(Affine.of(final))
        out = Affine.of(attention.out)
        width, gathered = out.weight.shape
        self.tail: nn.Module
        if attention.num_heads > 1:
            self.tail = Tail(layer.mlp, after, out, like)
        elif width <= gathered:
            values = with_direct(out.after(values), after)
            self.tail = Tail(layer.mlp, after, None, like)
        else:
            values = with_one(values)
            self.tail = NarrowTail(layer.mlp, after, out, like)
        self.keys, self.values = keys.linear(like), values.linear(like)

    @staticmethod
    def pays(
        layer: CrossLayer,
        final: nn.Linear | None,
        queries: PositionQueries | InputQueries,
        postprocessor: Postprocessor,
    ) -> bool:
        """Whether there is no residual past the tail, and what follows it is narrower than the query."""
        channels = layer.mlp.down.out_features
        width = postprocessor.affine(channels if final is None else final.out_features).weight.shape[0]
        known = layer.attention.num_heads == 1 or isinstance(queries, PositionQueries)
        return known and not layer.attention.query_residual and width < channels and queries.count > 1

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Keys [B, N, F] and values [B, N, V] of latents [B, N, D]."""
        x = normalised(latents, self.eps)
        return self.keys(x), self.values(x).mT.contiguous().mT  # laid out as every chunk's product wants it

    def chunk(self, keys: Tensor, values: Tensor, points: Tensor, placed: Placed | None) -> Tensor:
        """[B, P, out] at flat indices [P] or [B, P]."""
        if isinstance(self.asked, OnGrid) and (runs := _runs(points)):
            grid = self.asked.grid(keys, placed)
            if grid is not None:
                return self.tail(_along_rows(grid, runs, keys, values, placed))
        q = self.asked.queries(points, keys, placed)
        return self.tail(attend(q, keys, values, self.num_heads, scale=self.asked.scale))


def _along_rows(
    grid: Grid, runs: Sequence[tuple[int, int]], keys: Tensor, values: Tensor, placed: Placed | None
) -> Tensor:
    """What the queries of all `runs` gather, [B, P, V], a few rows of the grid at a time."""
    out = values.new_empty(len(values), sum(end - begin for begin, end in runs), values.shape[-1])
    bias, done = keys[..., grid.shared + grid.by_row.shape[-1]].contiguous(), 0
    for begin, end in runs:
        for group, k in grid.against(keys, begin, end):
            count = group.end - group.begin
            q = grid.places(group, None if placed is None else placed.features[:, group.begin : group.end], keys)
            attend(q, k, values, 1, bias, scale=1.0, out=out[:, done : done + count])
            done += count
    return out


def _runs(points: Tensor) -> list[tuple[int, int]]:
    """`points` [P] as runs of places that follow each other, where those are long enough to go along; else none."""
    if points.ndim > 1 or len(points) < RUN:
        return []
    ends = [*((points.diff() != 1).nonzero().flatten() + 1).tolist(), len(points)]
    if len(points) < RUN * len(ends):
        return []
    firsts = points[torch.tensor([0, *ends[:-1]], device=points.device)].tolist()
    lengths = [end - begin for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    return [(first, first + length) for first, length in zip(firsts, lengths, strict=True)]


def _asked(layer: CrossLayer, source: PositionQueries | InputQueries) -> Projected | Normalised | Positional:
    eps = layer.attention.norm_queries.eps
    if isinstance(source, InputQueries):
        return Normalised(source, eps)
    if layer.attention.num_heads == 1 and isinstance(source.positions, FourierPositions):
        found = Positional(source, eps)
        if len(found.order) < layer.attention.split[0]:
            return found
    return Projected(source, layer)


def _scored_by(asked: Normalised | Positional, attention: CrossAttention) -> Affine:
    """From keys [K] to what the queries' features [F] are multiplied with, 1 / √K in it."""
    query = Affine.of(attention.query).after(Affine.scale_of(attention.norm_queries))
    weight = torch.cat([query.weight @ asked.basis(), query.bias[:, None]], dim=1) / math.sqrt(attention.split[0])
    weight = F.pad(weight, (0, filling(weight.shape[1]))).T
    return Affine(weight, weight.new_zeros(len(weight)))
