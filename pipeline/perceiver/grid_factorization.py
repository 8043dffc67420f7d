"""Inputs and output queries that lie on a grid, without their positions beside them.

Each channel of a Fourier position depends on one dimension alone. Along a row of a grid, a run of places along its
last dimension, all other channels stay as they are: of q·x they are one number a query and row, and of Σ p x one sum of
p. So a place needs its features, the channels of its column, and one channel that says which of a few rows it lies in:

    q·[x; column; row] = [q_x; q_column; q_row·row]·[x; column; 1]

Of a tile of optical flow that is 208 channels in place of 322, of a pixel of a clip 80 in place of 208. Exact, as is
LayerNorm, which is a factor 1 / σ of each place where the queries are centred: q·(x - mean x) = (q - mean q)·x.

Shape letters as in `attention`; W: places of a row; R: rows of a group; S: features and the channels of a column.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.perceiver.positions import FourierPositions

ALIGN = 16  # channels: products over widths that are no multiple of it are slower
PLACES = {"cpu": 2048, "cuda": 1 << 15}  # of a group, at the least: where there are so many


def filling(width: int) -> int:
    """How many channels are lacking to a multiple of ALIGN."""
    return -width % ALIGN


class Group(NamedTuple):
    """Places of a few rows, by their number on the grid."""

    begin: int
    end: int
    rows: slice

    @property
    def height(self) -> int:
        """How many rows."""
        return int(self.rows.stop - self.rows.start)


class Channels(NamedTuple):
    """Which channels of a place change along a row, features first, and which do not."""

    column: list[int]
    row: list[int]

    @classmethod
    def of(cls, positions: FourierPositions, *, features: int, channels: int) -> Channels:
        """Features, positions and constants up to `channels`, in this order in a place."""
        axes = [[features + channel for channel in positions.columns(axis)] for axis in range(positions.dimensions)]
        padding = range(features + positions.channels, channels)
        return cls(column=[*range(features), *axes[-1]], row=[*chain.from_iterable(axes[:-1]), *padding])


class Grid:
    """What all units share of the places of one grid: the channels of its columns and rows, and their sums.

    by_column: [width, L], those of Fourier positions that change along a row. by_row: [rows, ·], all others. Both are
    float32 at the least. shared: S. group_rows: R, as many as make S + R a multiple of ALIGN.
    """

    def __init__(
        self,
        positions: FourierPositions,
        index_dims: Sequence[int],
        like: Tensor,
        *,
        whole: bool,
        features: int = 0,
        padding: Tensor | None = None,
        eps: float,
        one: bool = False,
    ) -> None:
        """padding: constants [P] that every place has. one: a row has a single channel of 1 in their place.
        whole: which of the two conventions the places lie by, see `positions`."""
        tables = [table.to(_wide(like)) for table in positions.along(index_dims, like, whole=whole)]
        constants = like.new_zeros(0) if padding is None else padding.detach().flatten()
        constants = constants.to(_wide(like))
        self.width, self.rows = index_dims[-1], math.prod(index_dims[:-1])
        self.eps, self._count = eps, features + positions.channels + len(constants)
        self.channels = Channels.of(positions, features=features, channels=self._count)
        self.by_column = tables[-1]
        beside = like.new_ones(1, dtype=_wide(like)) if one else constants
        self.by_row = torch.cat([*_crossed(tables[:-1], index_dims[:-1]), beside.expand(self.rows, -1)], dim=-1)
        sums, squares = (
            sum(_crossed([table.pow(power).sum(dim=-1, keepdim=True) for table in tables], index_dims))
            + constants.pow(power).sum()
            for power in (1, 2)
        )
        self._sums, self._squares = sums, squares
        self.shared = features + self.by_column.shape[1]
        groups = -(-self.rows // -(-PLACES[like.device.type] // self.width))
        self.group_rows = -(-self.rows // groups)
        self.group_rows += filling(self.shared + self.group_rows)
        there = min(self.group_rows, self.rows)
        row = torch.eye(there, self.group_rows, dtype=_wide(like), device=like.device)
        self._template = torch.cat([self.by_column.repeat(there, 1), row.repeat_interleave(self.width, dim=0)], dim=1)

    @property
    def nbytes(self) -> int:
        """Of what it holds."""
        return sum(x.nbytes for x in vars(self).values() if isinstance(x, Tensor))

    def groups(self, begin: int, end: int) -> Iterator[Group]:
        """The places from `begin` to `end`, by groups of rows."""
        first, last = begin // self.width, -(-end // self.width)
        for row in range(first, last, self.group_rows):
            rows = slice(row, min(row + self.group_rows, last))
            yield Group(max(begin, rows.start * self.width), min(end, rows.stop * self.width), rows)

    def against(self, other: Tensor, begin: int, end: int) -> Iterator[tuple[Group, Tensor]]:
        """The groups of places from `begin` to `end`, and what `places` of each are multiplied with, [..., S + R]: of
        `other` [..., S + ·], with the channels of a column first. It is written over for the next group."""
        side = other.new_zeros(*other.shape[:-1], self.shared + self.group_rows)
        side[..., : self.shared] = other[..., : self.shared]
        first, last = begin // self.width, -(-end // self.width)
        row = other[..., self.shared : self.shared + self.by_row.shape[-1]].to(self.by_row.dtype)
        of_row = row @ self.by_row[first:last].T
        for group in self.groups(begin, end):
            rows = group.rows
            side[..., self.shared : self.shared + group.height] = of_row[..., rows.start - first : rows.stop - first]
            yield group, side

    def places(self, group: Group, features: Tensor | None, like: Tensor) -> Tensor:
        """[B, n, S + R] in the dtype of `like`, over σ of each place: features [B, n, F] of the group's places, the
        channels of its column, a 1 for its row among those of the group."""
        sums, squares = (x[group.begin : group.end] for x in (self._sums, self._squares))
        offset = group.rows.start * self.width
        template = self._template[group.begin - offset : group.end - offset]
        if features is None:
            return (template * self._root(sums, squares)).to(like.dtype)[None]
        features = features.to(template.dtype)
        root = self._root(
            sums + features.sum(dim=-1, keepdim=True), squares + features.square().sum(dim=-1, keepdim=True)
        )
        out = like.new_empty(*features.shape[:-1], features.shape[-1] + template.shape[-1])
        out[..., : features.shape[-1]] = features * root
        out[..., features.shape[-1] :] = template * root
        return out

    def at(self, points: Tensor) -> Tensor:
        """float32 [P, L + ·] at flat indices [P], over σ of each place: the channels of its column, those of its row.
        For places without features."""
        channels = torch.cat([self.by_column[points % self.width], self.by_row[points // self.width]], dim=-1)
        return channels * self._root(self._sums[points], self._squares[points])

    def _root(self, sums: Tensor, squares: Tensor) -> Tensor:
        """1 / σ."""
        return torch.rsqrt(squares / self._count - (sums / self._count).square() + self.eps)


def _wide(like: Tensor) -> torch.dtype:
    return torch.float64 if like.dtype == torch.float64 else torch.float32


def _crossed(tables: Sequence[Tensor], index_dims: Sequence[int]) -> list[Tensor]:
    """A table [n, c] of each dimension as [M, c], for all M places of their grid."""
    crossed = []
    for axis, table in enumerate(tables):
        shape = [1] * len(tables)
        shape[axis] = len(table)
        spread = table.reshape(*shape, -1).expand(*index_dims, -1)
        crossed.append(spread.reshape(math.prod(index_dims), -1))
    return crossed
