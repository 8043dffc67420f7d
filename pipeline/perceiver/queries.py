"""Output queries: what a decoder asks the latents with. Paper, section 3.2."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.perceiver.attention_layers import CrossLayer
from pipeline.perceiver.positions import FourierPositions, ProjectedPositions, TrainedPositions
from pipeline.perceiver.preprocessors import Placed
from pipeline.perceiver.tensor_cache import Constant

# Queries made of positions alone are projected once and kept, where all of them fit in this.
CACHE_BYTES = 64 << 20


class PositionQueries(nn.Module):
    """Output queries made of positions and trained padding alone: the same for every unit."""

    def __init__(
        self,
        positions: FourierPositions | TrainedPositions | ProjectedPositions,
        *,
        index_dims: Sequence[int],
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.index_dims = tuple(index_dims)
        self.count = math.prod(self.index_dims)
        self.channels = positions.channels + padding
        self.positions = positions
        self.padding = nn.Parameter(torch.empty(1, padding)) if padding else None
        self._projected: Constant[Tensor] = Constant(CACHE_BYTES)

    def at(self, points: Tensor, like: Tensor) -> Tensor:
        """Queries [..., E] at flat indices [...]."""
        queries = self.positions.at(points, self.index_dims, like)
        if self.padding is None:
            return queries
        return torch.cat([queries, self.padding.expand(*queries.shape[:-1], -1)], dim=-1)

    def projected(self, points: Tensor, like: Tensor, layer: CrossLayer) -> Tensor:
        """`layer`'s projection [..., K] of the queries at `points`: looked up where all of them are few."""
        width = layer.attention.split[0]
        if self.count * width * like.element_size() > CACHE_BYTES:
            return layer.attention.project_queries(self.at(points, like))

        def project_all() -> Tensor:
            every = torch.arange(self.count, device=like.device)
            return layer.attention.project_queries(self.at(every, like))

        return self._projected.get(like, "projected", project_all)[points]


class InputQueries(nn.Module):
    """Output queries that are the preprocessed inputs themselves (optical flow): features with Fourier positions."""

    def __init__(self, positions: FourierPositions, *, index_dims: Sequence[int], features: int) -> None:
        super().__init__()
        self.count = math.prod(index_dims)
        self.features, self.positions = features, positions
        self.channels = features + positions.channels

    def at(self, points: Tensor, placed: Placed | None) -> Tensor:
        """Queries [B, P, E] at flat indices [P] or [B, P]; ValueError without the inputs."""
        if placed is None:
            raise ValueError("this model's output queries are made of its inputs: decode(latents, inputs=…)")
        return placed.at(points)


def batched(x: Tensor) -> Tensor:
    """[P, c] as [1, P, c]: the same for every unit."""
    return x[None] if x.ndim == 2 else x
