"""Output queries of a decoder. Paper, section 3.2.

Shape letters: B units, P queries given by flat indices, E query channels, K projected channels.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from pipeline.perceiver.attention_layers import CrossAttention
from pipeline.perceiver.positions import FourierPositions, Positions
from pipeline.perceiver.preprocessors import PositionedFeatures
from pipeline.perceiver.tensor_cache import TensorCache

# Queries made of positions alone are projected once and cached, if all of them fit in this many bytes.
CACHE_BYTES = 64 << 20


class PositionQueries(nn.Module):
    """Output queries made of positions and trained padding alone: the same for every unit."""

    def __init__(self, positions: Positions, *, index_dims: Sequence[int], padding: int = 0) -> None:
        super().__init__()
        self.index_dims, self.count = tuple(index_dims), math.prod(index_dims)
        self.positions, self.channels = positions, positions.channels + padding
        self.padding = nn.Parameter(torch.empty(1, padding)) if padding else None
        self._projected: TensorCache[Tensor] = TensorCache(CACHE_BYTES)

    def at(self, points: Tensor, like: Tensor) -> Tensor:
        """Return queries [..., E] at flat indices [...]."""
        queries = self.positions.at(points, self.index_dims, like)
        if self.padding is None:
            return queries
        return torch.cat([queries, self.padding.expand(*queries.shape[:-1], -1)], dim=-1)

    def projected(self, points: Tensor, like: Tensor, attention: CrossAttention) -> Tensor:
        """Return the queries at flat indices [P] or [B, P] as `attention` projects them, [1 or B, P, K]."""
        if self.count * attention.split[0] * like.element_size() > CACHE_BYTES:
            return with_batch(attention.project_queries(self.at(points, like)))

        def project_all() -> Tensor:
            return attention.project_queries(self.at(torch.arange(self.count, device=like.device), like))

        return with_batch(self._projected.get(like, "projected", project_all)[points])


class InputQueries(nn.Module):
    """Output queries that are the preprocessed inputs (optical flow): features with Fourier positions."""

    def __init__(self, positions: FourierPositions, *, index_dims: Sequence[int], features: int) -> None:
        super().__init__()
        self.count = math.prod(index_dims)
        self.features, self.positions = features, positions
        self.channels = features + positions.channels

    def at(self, points: Tensor, inputs: PositionedFeatures | None) -> Tensor:
        """Return queries [B, P, E] at flat indices [P] or [B, P]; raise ValueError without the inputs."""
        if inputs is None:
            raise ValueError("this model computes output queries from its inputs: call decode(latents, inputs=...)")
        return inputs.at(points)


Queries: TypeAlias = PositionQueries | InputQueries


def with_batch(x: Tensor) -> Tensor:
    """Return [P, c] as [1, P, c], for all units alike; [B, P, c] is unchanged."""
    return x[None] if x.ndim == 2 else x
