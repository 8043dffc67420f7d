"""Attention to points of a grid without concatenating their positions.

Each channel of a Fourier position depends on one dimension of the grid. Along a row, the points that differ in the last
dimension only, all other channels are constant: they add one number per query and row to q·x, and contribute a multiple
of Σ p to Σ p x. So a point x needs only its features, the channels that change along a row ("column"), and a one-hot
code of its row within a group of rows:

    q·[x; column; row] = [q_x; q_column; q_row·row]·[x; column; 1]

This leaves 208 of 322 channels of an optical-flow tile, and 80 of 208 of a video pixel. It is exact, and so is
LayerNorm, which is a factor 1 / σ for each point if the queries are centred: q·(x - mean x) = (q - mean q)·x.

Shape letters: B units, M grid points, n points of a group, F features, R rows of a group, S = F + channels of a column,
P points given by flat indices.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.perceiver.positions import FourierPositions

ALIGN = 16  # channels: products over widths that are not a multiple of it are slower
MIN_GROUP_POINTS = {"cpu": 2048, "cuda": 1 << 15}  # points of a group of rows, if the grid has as many


def alignment_padding(width: int) -> int:
    """Return how many channels to add to reach a multiple of ALIGN."""
    return -width % ALIGN


class RowGroup(NamedTuple):
    """Points from `begin` to `end` of a grid, which lie in `rows`."""

    begin: int
    end: int
    rows: slice

    @property
    def height(self) -> int:
        """Return the number of rows."""
        return int(self.rows.stop - self.rows.start)


def column_first_order(positions: FourierPositions, *, features: int, channels: int) -> list[int]:
    """Return the order of a point's channels that puts those that change along a row first.

    A point has `features` features, its positions, then constants up to `channels`.
    """
    axes = [[features + channel for channel in positions.axis_channels(axis)] for axis in range(positions.dimensions)]
    constants = range(features + positions.channels, channels)
    return [*range(features), *axes[-1], *chain.from_iterable(axes[:-1]), *constants]


class FactoredGrid:
    """Channels of the columns and rows of a grid, which all units share.

    column_table: [columns, ·], the Fourier channels that change along a row. row_table: [rows, ·], all others. Both are
    float32, or float64 for float64 models.
    order: see `column_first_order`. column_width: S. group_rows: R, with S + R a multiple of ALIGN.
    """

    def __init__(
        self,
        positions: FourierPositions,
        index_dims: Sequence[int],
        like: Tensor,
        *,
        inclusive: bool,
        features: int = 0,
        padding: Tensor | None = None,
        eps: float,
        padding_as_one: bool = False,
    ) -> None:
        """Compute the tables of a grid of shape `index_dims`.

        inclusive: which convention the positions follow, see `positions`. padding: constants [P] that every point has.
        padding_as_one: replace them in row_table by a single channel of 1. eps: epsilon of the LayerNorm.
        """
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        tables = [table.to(dtype) for table in positions.axis_tables(index_dims, like, inclusive=inclusive)]
        constants = like.new_zeros(0, dtype=dtype) if padding is None else padding.detach().flatten().to(dtype)
        self.eps, self.channels = eps, features + positions.channels + len(constants)
        self.order = column_first_order(positions, features=features, channels=self.channels)
        self.columns, self.rows = index_dims[-1], math.prod(index_dims[:-1])
        self.column_table = tables[-1]
        last = constants.new_ones(1) if padding_as_one else constants
        self.row_table = torch.cat([*_broadcast(tables[:-1], index_dims[:-1]), last.expand(self.rows, -1)], dim=-1)
        self._sums, self._squares = (
            sum(_broadcast([table.pow(power).sum(dim=-1, keepdim=True) for table in tables], index_dims))
            + constants.pow(power).sum()
            for power in (1, 2)
        )
        self.column_width = features + self.column_table.shape[1]
        groups = -(-self.rows // -(-MIN_GROUP_POINTS[like.device.type] // self.columns))
        self.group_rows = -(-self.rows // groups)
        self.group_rows += alignment_padding(self.column_width + self.group_rows)
        used = min(self.group_rows, self.rows)
        row_codes = torch.eye(used, self.group_rows, dtype=dtype, device=like.device).repeat_interleave(self.columns, 0)
        # Columns and row codes of the points of a group, [R · columns, ·].
        self._template = torch.cat([self.column_table.repeat(used, 1), row_codes], dim=1)

    @property
    def nbytes(self) -> int:
        """Return the size of its tensors in bytes."""
        return sum(x.nbytes for x in vars(self).values() if isinstance(x, Tensor))

    def factors(self, other: Tensor, begin: int, end: int) -> Iterator[tuple[RowGroup, Tensor]]:
        """Yield the groups of the points from `begin` to `end`, with the factor [..., S + R] of `points` of each.

        The product of both is that of `other` [..., C], its channels in `order`, with the standardised points. The
        tensor is overwritten for the next group.
        """
        first, last = begin // self.columns, -(-end // self.columns)
        factor = other.new_zeros(*other.shape[:-1], self.column_width + self.group_rows)
        factor[..., : self.column_width] = other[..., : self.column_width]
        by_row = other[..., self.column_width : self.column_width + self.row_table.shape[-1]]
        row_scores = by_row.to(self.row_table.dtype) @ self.row_table[first:last].T
        for row in range(first, last, self.group_rows):
            rows = slice(row, min(row + self.group_rows, last))
            group = RowGroup(max(begin, rows.start * self.columns), min(end, rows.stop * self.columns), rows)
            scores = row_scores[..., rows.start - first : rows.stop - first]
            factor[..., self.column_width : self.column_width + group.height] = scores
            yield group, factor

    def points(self, group: RowGroup, features: Tensor | None, like: Tensor) -> Tensor:
        """Return [x; column; row] / σ of a group's points, [B or 1, n, S + R], in the dtype of `like`.

        features: [B, n, F] of the points of the group.
        """
        sums, squares = (x[group.begin : group.end] for x in (self._sums, self._squares))
        offset = group.rows.start * self.columns
        template = self._template[group.begin - offset : group.end - offset]
        if features is None:
            return (template * self._inverse_deviation(sums, squares)).to(like.dtype)[None]
        features = features.to(template.dtype)
        scale = self._inverse_deviation(
            sums + features.sum(dim=-1, keepdim=True), squares + features.square().sum(dim=-1, keepdim=True)
        )
        out = like.new_empty(*features.shape[:-1], features.shape[-1] + template.shape[-1])
        out[..., : features.shape[-1]] = features * scale
        out[..., features.shape[-1] :] = template * scale
        return out

    def at(self, points: Tensor) -> Tensor:
        """Return [column; row] / σ of points without features, float32 [P, ·], at flat indices [P]."""
        channels = torch.cat([self.column_table[points % self.columns], self.row_table[points // self.columns]], dim=-1)
        return channels * self._inverse_deviation(self._sums[points], self._squares[points])

    def _inverse_deviation(self, sums: Tensor, squares: Tensor) -> Tensor:
        """Return 1 / σ of points, from the sums of their channels and of the squares of these."""
        return torch.rsqrt(squares / self.channels - (sums / self.channels).square() + self.eps)


def _broadcast(tables: Sequence[Tensor], index_dims: Sequence[int]) -> list[Tensor]:
    """Return the table [n, c] of each dimension as [M, c], for all M points of the grid."""
    broadcast = []
    for axis, table in enumerate(tables):
        shape = [-1 if other == axis else 1 for other in range(len(tables))]
        broadcast.append(table.reshape(*shape, table.shape[-1]).expand(*index_dims, -1).flatten(0, -2))
    return broadcast
