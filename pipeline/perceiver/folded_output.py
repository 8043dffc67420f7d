"""One output of a decoder, with the products of its weights formed at load time.

With one head, scores are q·k = (W_q x̂ + b_q)·k, so W_q can move to the few latents. If the queries are made of
positions and constants alone, x̂ lies in a space with fewer dimensions than the query has channels. What follows the
attention is folded as well, see `folded_tail`.

Shape letters: B units, N latents, D latent channels, P queries, F query features, V value channels, E query channels.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.perceiver.affine import Affine, make_linear, standardise
from pipeline.perceiver.attention_kernels import attend
from pipeline.perceiver.attention_layers import CrossAttention, CrossLayer
from pipeline.perceiver.folded_tail import FoldedTail, NarrowFoldedTail, append_one, append_output
from pipeline.perceiver.grid_factorization import FactoredGrid, alignment_padding, column_first_order
from pipeline.perceiver.positions import FourierPositions
from pipeline.perceiver.postprocessors import Postprocessor
from pipeline.perceiver.preprocessors import PositionedFeatures
from pipeline.perceiver.queries import InputQueries, PositionQueries, Queries, with_batch
from pipeline.perceiver.tensor_cache import TensorCache

MIN_RUN = 256  # mean length of runs of consecutive points from which they are decoded row by row of their grid


class ProjectedQueries(nn.Module):
    """Queries as the layer projects them, computed once if they fit in the cache.

    Like the other features of output queries, their product with the folded keys is the score times 1 / `scale`.
    """

    scale = None

    def __init__(self, source: PositionQueries, attention: CrossAttention) -> None:
        super().__init__()
        self.source = source
        self._attention = (attention,)  # in a tuple, so that its weights are not registered twice

    def at(self, points: Tensor, like: Tensor, inputs: PositionedFeatures | None) -> Tensor:  # noqa: ARG002
        """Return features [B or 1, P, F] at flat indices [P] or [B, P]."""
        return self.source.projected(points, like, self._attention[0])


class GridQueries(nn.Module):
    """Queries x̃ = x / σ at points of a grid, with the channels that change along a row first: features [x̃; 1; 0 …].

    The keys are centred instead of x̃, since x̂ = x̃ - mean x̃.
    """

    scale = 1.0

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.order = list(order)

    def append_one(self, x: Tensor) -> Tensor:
        """Return [..., F] from x̃ [..., ·]: a channel of 1 for the bias, and zeros up to an aligned width."""
        width = len(self.order)
        x = F.pad(x, (0, 1 + alignment_padding(width + 1)))
        x[..., width] = 1
        return x


class InputGridQueries(GridQueries):
    """Features of queries made of inputs."""

    def __init__(self, source: InputQueries, eps: float) -> None:
        super().__init__(column_first_order(source.positions, features=source.features, channels=source.channels))
        self.source, self.eps = source, eps

    def basis(self) -> Tensor:
        """Return the matrix [E, ·] from x̃ to x̂, float64."""
        return Affine.centring(self.source.channels).weight[:, self.order]

    def grid(self, like: Tensor, inputs: PositionedFeatures | None) -> FactoredGrid | None:  # noqa: ARG002
        """Return the factored grid of all queries; None if the inputs do not begin at its first point."""
        return None if inputs is None or inputs.begin else inputs.grid(self.eps)

    def at(self, points: Tensor, like: Tensor, inputs: PositionedFeatures | None) -> Tensor:  # noqa: ARG002
        return self.append_one(standardise(self.source.at(points, inputs), self.eps)[..., self.order])


class PositionGridQueries(GridQueries):
    """Features of queries made of Fourier positions and constants; the constants are one channel of x̃."""

    def __init__(self, source: PositionQueries, positions: FourierPositions, eps: float) -> None:
        order = column_first_order(positions, features=0, channels=positions.channels)
        super().__init__([*order, positions.channels])
        self.source, self.positions, self.eps = source, positions, eps
        self._grid: TensorCache[FactoredGrid] = TensorCache()

    def basis(self) -> Tensor:
        """Return the matrix [E, ·] from x̃ to x̂, float64."""
        width, padding = self.positions.channels, self.source.padding
        basis = torch.eye(self.source.channels, width + 1, dtype=torch.float64)
        basis[:, width] = 0
        if padding is not None:
            basis[width:, width] = padding[0].double()
        return (Affine.centring(self.source.channels).weight @ basis)[:, self.order]

    def grid(self, like: Tensor, inputs: PositionedFeatures | None = None) -> FactoredGrid:  # noqa: ARG002
        """Return the factored grid of all queries."""

        def factor() -> FactoredGrid:
            dims, padding = self.source.index_dims, self.source.padding
            return FactoredGrid(
                self.positions, dims, like, inclusive=False, padding=padding, padding_as_one=True, eps=self.eps
            )

        return self._grid.get(like, "grid", factor)

    def at(self, points: Tensor, like: Tensor, inputs: PositionedFeatures | None) -> Tensor:  # noqa: ARG002
        return with_batch(self.append_one(self.grid(like).at(points).to(like.dtype)))


class FoldedOutput(nn.Module):
    """One output from the latents, with as few products per query as its shape allows."""

    def __init__(
        self, layer: CrossLayer, final: nn.Linear | None, queries: Queries, postprocessor: Postprocessor
    ) -> None:
        super().__init__()
        attention, like = layer.attention, layer.attention.kv.weight
        self.num_heads, self.eps = attention.num_heads, attention.norm_inputs.eps
        kv = Affine.of(attention.kv).after(Affine.scale_of(attention.norm_inputs))
        keys, values = kv.rows(0, attention.split[0]), kv.rows(attention.split[0])
        self.queries = _query_features(attention, queries)
        if not isinstance(self.queries, ProjectedQueries):
            keys = _absorb_query(self.queries, attention).after(keys)
        after = postprocessor.affine(layer.mlp.down.out_features if final is None else final.out_features)
        after = after if final is None else after.after(Affine.of(final))
        out = Affine.of(attention.out)
        if attention.num_heads > 1:
            self.tail: nn.Module = FoldedTail(layer.mlp, after, out, like)
        elif attention.out.out_features <= attention.out.in_features:
            values = append_output(out.after(values), after)
            self.tail = FoldedTail(layer.mlp, after, None, like)
        else:
            values = append_one(values)
            self.tail = NarrowFoldedTail(layer.mlp, after, out, like)
        self.keys, self.values = make_linear(*keys, like), make_linear(*values, like)

    @staticmethod
    def pays(layer: CrossLayer, final: nn.Linear | None, queries: Queries, postprocessor: Postprocessor) -> bool:
        """Return whether an output can be folded (no query residual) and is narrower than its queries."""
        channels = layer.mlp.down.out_features
        width = len(postprocessor.affine(channels if final is None else final.out_features).bias)
        supported = layer.attention.num_heads == 1 or isinstance(queries, PositionQueries)
        return supported and not layer.attention.query_residual and width < channels and queries.count > 1

    def project_latents(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys [B, N, F] and values [B, N, V] of latents [B, N, D]."""
        x = standardise(latents, self.eps)
        return self.keys(x), self.values(x).mT.contiguous().mT  # the layout that the product of every chunk needs

    def decode(self, keys: Tensor, values: Tensor, points: Tensor, inputs: PositionedFeatures | None) -> Tensor:
        """Return outputs [B, P, out] at flat indices [P] or [B, P]."""
        if not isinstance(self.queries, ProjectedQueries) and (runs := _consecutive_runs(points)):
            grid = self.queries.grid(keys, inputs)
            if grid is not None:
                return self.tail(_attend_rows(grid, runs, keys, values, inputs))
        q = self.queries.at(points, keys, inputs)
        return self.tail(attend(q, keys, values, self.num_heads, scale=self.queries.scale))


def _query_features(
    attention: CrossAttention, source: Queries
) -> ProjectedQueries | InputGridQueries | PositionGridQueries:
    """Return the features with the fewest channels for these queries."""
    eps = attention.norm_queries.eps
    if isinstance(source, InputQueries):
        return InputGridQueries(source, eps)
    if attention.num_heads == 1 and isinstance(source.positions, FourierPositions):
        features = PositionGridQueries(source, source.positions, eps)
        if len(features.order) < attention.split[0]:
            return features
    return ProjectedQueries(source, attention)


def _absorb_query(queries: InputGridQueries | PositionGridQueries, attention: CrossAttention) -> Affine:
    """Return the map from keys [K] to the factor [F] of query features, with the scale 1 / √K."""
    query = Affine.of(attention.query).after(Affine.scale_of(attention.norm_queries))
    weight = torch.cat([query.weight @ queries.basis(), query.bias[:, None]], dim=1) / math.sqrt(attention.split[0])
    weight = F.pad(weight, (0, alignment_padding(weight.shape[1]))).T
    return Affine(weight, weight.new_zeros(len(weight)))


def _attend_rows(
    grid: FactoredGrid, runs: Sequence[tuple[int, int]], keys: Tensor, values: Tensor, inputs: PositionedFeatures | None
) -> Tensor:
    """Return the attended values [B, P, V] of the queries in `runs`, computed by groups of rows of the grid."""
    out = values.new_empty(len(values), sum(end - begin for begin, end in runs), values.shape[-1])
    bias, done = keys[..., grid.column_width + grid.row_table.shape[-1]].contiguous(), 0
    for begin, end in runs:
        for group, k in grid.factors(keys, begin, end):
            features = None if inputs is None else inputs.features[:, group.begin : group.end]
            q = grid.points(group, features, keys)
            attend(q, k, values, 1, bias, scale=1.0, out=out[:, done : done + q.shape[1]])
            done += q.shape[1]
    return out


def _consecutive_runs(points: Tensor) -> list[tuple[int, int]]:
    """Return flat indices [P] as runs (begin, end) of consecutive points; none if these are shorter than MIN_RUN."""
    if points.ndim > 1 or len(points) < MIN_RUN:
        return []
    ends = [*((points.diff() != 1).nonzero().flatten() + 1).tolist(), len(points)]
    if len(points) < MIN_RUN * len(ends):
        return []
    starts = [0, *ends[:-1]]
    firsts = points[torch.tensor(starts, device=points.device)].tolist()
    return [(first, first + end - start) for first, start, end in zip(firsts, starts, ends, strict=True)]
