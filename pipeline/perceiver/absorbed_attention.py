"""The encoder's cross-attention over inputs that are not projected.

With one head (W_q q)·(W_k x) = (W_kᵀ W_q q)·x and P (x W_vᵀ) = (P x) W_vᵀ: only the few hundred latents are projected,
not tens of thousands of inputs. The keys' bias adds the same number to all scores of a query, which softmax ignores.

Shape letters: B units, M inputs, C input channels, N latents, D latent channels.
"""

import math
from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.perceiver.affine import Affine, frozen_parameter, make_linear, standardise
from pipeline.perceiver.attention_kernels import attend
from pipeline.perceiver.attention_layers import CrossAttention
from pipeline.perceiver.batching import even_slices
from pipeline.perceiver.cpu_parallel import parallel_map, worker_count
from pipeline.perceiver.grid_factorization import FactoredGrid
from pipeline.perceiver.partial_attention import PartialAttention, attend_partial
from pipeline.perceiver.preprocessors import InputPart, PositionedFeatures, to_inputs


class AbsorbedAttention(nn.Module):
    """Cross-attention of the latents whose keys and values are the standardised inputs x̂ themselves.

    Both absorbed maps are centred, as factored grids need it: see `grid_factorization`.
    """

    def __init__(self, attention: CrossAttention, latents: Tensor) -> None:
        super().__init__()
        like, split = attention.kv.weight, attention.split
        centring = Affine.centring(attention.kv.in_features)
        kv = Affine.of(attention.kv).after(Affine.scale_of(attention.norm_inputs)).after(centring)
        query = Affine.of(attention.query).after(Affine.scale_of(attention.norm_queries))
        q = F.linear(standardise(latents.double(), attention.norm_queries.eps), *query) / math.sqrt(split[0])
        self.queries = frozen_parameter(q @ kv.rows(0, split[0]).weight, like)
        self.out = make_linear(*Affine.of(attention.out).after(kv.rows(split[0])), like)
        self.eps, self.query_residual = attention.norm_inputs.eps, attention.query_residual

    @staticmethod
    def pays(attention: CrossAttention, latents: Tensor) -> bool:
        """Return whether this takes fewer multiplications per input than projecting it."""
        num_latents, channels = len(latents), attention.kv.in_features
        projected = sum(attention.split) * (num_latents + channels)
        return attention.num_heads == 1 and 2 * num_latents * channels <= projected

    def forward(self, parts: Sequence[InputPart], latents: Tensor, mask: Tensor | None) -> Tensor:
        """Return [B, N, D] as `CrossAttention` does; mask: [B, M], added to the scores."""
        if any(
            isinstance(part, PositionedFeatures) and part.source.factorable and part.features.numel() for part in parts
        ):
            return self.finish(self._attend(parts, mask).normalise(), latents)
        x = standardise(to_inputs(parts), self.eps)
        return self.finish(attend(self.queries[None], x, x, 1, mask, scale=1.0), latents)

    def attend_partial(self, parts: Sequence[InputPart], mask: Tensor | None) -> PartialAttention:
        """Return the attention over some of the inputs, by head: values [B, 1, N, C]."""
        return PartialAttention(*(x[:, None] for x in self._attend(parts, mask)))

    def finish(self, attended: Tensor, latents: Tensor) -> Tensor:
        """Return [B, N, D] from the attended values of all inputs, [B, N, C]."""
        residual = latents.expand(len(attended), -1, -1) if self.query_residual else None
        return self.out(attended.to(self.queries.dtype), residual=residual)

    def _attend(self, parts: Sequence[InputPart], mask: Tensor | None) -> PartialAttention:
        """Attend to all parts, values [B, N, C]; each CPU worker takes a slice of every part."""
        device = self.queries.device
        workers = worker_count(max(part.shape[1] for part in parts), device)
        biases = [None] * len(parts) if mask is None else mask.split([part.shape[1] for part in parts], dim=1)

        def attend_slices(worker: int) -> PartialAttention:
            slices = [even_slices(part.shape[1], workers)[worker] for part in parts]
            attended = (
                self._attend_part(part[:, some], None if bias is None else bias[:, some])
                for part, bias, some in zip(parts, biases, slices, strict=True)
            )
            return reduce(PartialAttention.merge, attended)

        return reduce(PartialAttention.merge, parallel_map(attend_slices, range(workers), device))

    def _attend_part(self, part: InputPart, bias: Tensor | None) -> PartialAttention:
        if isinstance(part, PositionedFeatures) and part.shape[1] and (grid := part.grid(self.eps)):
            return self._attend_grid(grid, part, bias)
        x = standardise(to_inputs([part]), self.eps)
        return attend_partial(self.queries, x, x, bias)

    def _attend_grid(self, grid: FactoredGrid, part: PositionedFeatures, bias: Tensor | None) -> PartialAttention:
        """Attend to inputs on a grid, one group of rows after another."""
        order, width = grid.order, grid.column_width
        groups = []
        for group, q in grid.factors(self.queries[:, order], part.begin, part.begin + part.shape[1]):
            here = slice(group.begin - part.begin, group.end - part.begin)
            x = grid.points(group, part.features[:, here], q)
            values, *sums = attend_partial(q, x, x, None if bias is None else bias[:, here])
            by_row = values[..., width : width + group.height] @ grid.row_table[group.rows]
            groups.append(PartialAttention(torch.cat([values[..., :width], by_row], dim=-1), *sums))
        values, *sums = reduce(PartialAttention.merge, groups)
        return PartialAttention(values[..., torch.tensor(order, device=values.device).argsort()], *sums)
