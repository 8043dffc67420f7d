"""Products of weights that inference may form once, when a model is loaded: exact up to rounding, formed in float64.

Shape letters as in `attention`. x̂ is an input or a query after LayerNorm, without its scale and shift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.perceiver.attention_kernels import Gathered, attend, attend_part, gather
from pipeline.perceiver.attention_layers import MLP, CrossAttention
from pipeline.perceiver.cpu_parallel import lanes, side_by_side
from pipeline.perceiver.grid_factorization import Grid, filling
from pipeline.perceiver.onednn_linear import Float32Linear, Linear
from pipeline.perceiver.preprocessors import Piece, Placed, Share, whole

FEW = 16  # outputs: so narrow a map is computed in float32


class Affine(NamedTuple):
    """y = weight x + bias, in float64. weight: [out, in]; bias: [out]."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, linear: nn.Linear) -> Affine:
        weight = linear.weight.double()
        return cls(weight, weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.double())

    @classmethod
    def identity(cls, channels: int) -> Affine:
        return cls(torch.eye(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64))

    @classmethod
    def scale_of(cls, norm: nn.LayerNorm) -> Affine:
        """From x̂ to what the norm gives."""
        return cls(torch.diag(norm.weight.double()), norm.bias.double())

    @classmethod
    def centring(cls, channels: int) -> Affine:
        """From x to x - mean x: what LayerNorm has done to x̂ already."""
        return cls(torch.eye(channels, dtype=torch.float64) - 1 / channels, torch.zeros(channels, dtype=torch.float64))

    def after(self, first: Affine) -> Affine:
        """This one of what `first` gives."""
        return Affine(self.weight @ first.weight, self.weight @ first.bias + self.bias)

    def rows(self, begin: int, end: int | None = None) -> Affine:
        """Of its outputs those from `begin` to `end`."""
        return Affine(self.weight[begin:end], self.bias[begin:end])

    def linear(self, like: Tensor) -> Linear:
        """As a module, in the dtype and on the device of `like`."""
        return linear(self.weight, self.bias, like)


def linear(weight: Tensor, bias: Tensor | None, like: Tensor, kind: type[Linear] = Linear) -> Linear:
    """A module of these weights, in the dtype and on the device of `like`."""
    module = kind(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    module.weight = constant(weight, like)
    if bias is not None:
        module.bias = constant(bias, like)
    return module


def constant(value: Tensor, like: Tensor) -> nn.Parameter:
    """A tensor that moves with its module."""
    return nn.Parameter(value.to(like.device, like.dtype).contiguous(), requires_grad=False)


def normalised(x: Tensor, eps: float) -> Tensor:
    """x̂ of x [..., C]."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)


class AbsorbedAttention(nn.Module):
    """The latents' cross-attention, with keys and values that are the normalised inputs themselves.

    With one head (W_q q)·(W_k x) = (W_kᵀ W_q q)·x and P (x W_vᵀ) = (P x) W_vᵀ: nothing is projected for tens of
    thousands of inputs, but for hundreds of latents. The keys' bias is the same for all inputs of a query, so softmax
    does not see it. Inputs on a grid have only some of their channels: see `grids`, which is why both maps are centred.
    """

    def __init__(self, attention: CrossAttention, latents: Tensor) -> None:
        super().__init__()
        like, split = attention.kv.weight, attention.split
        centring = Affine.centring(attention.kv.in_features)
        kv = Affine.of(attention.kv).after(Affine.scale_of(attention.norm_inputs)).after(centring)
        query = Affine.of(attention.query).after(Affine.scale_of(attention.norm_queries))
        eps = attention.norm_queries.eps
        asked = F.linear(normalised(latents.double(), eps), query.weight, query.bias) / math.sqrt(split[0])
        self.queries = constant(asked @ kv.rows(0, split[0]).weight, like)
        self.out = Affine.of(attention.out).after(kv.rows(split[0])).linear(like)
        self.eps, self.query_residual = attention.norm_inputs.eps, attention.query_residual

    @staticmethod
    def pays(attention: CrossAttention, latents: Tensor) -> bool:
        """Whether it takes fewer multiplications an input than projecting it."""
        num_latents, channels = len(latents), attention.kv.in_features
        return attention.num_heads == 1 and 2 * num_latents * channels <= sum(attention.split) * (
            num_latents + channels
        )

    def forward(self, pieces: Sequence[Piece], latents: Tensor, mask: Tensor | None) -> Tensor:
        """[B, N, D] as `CrossAttention` gives it, from inputs of M places; mask [B, M] is added to the scores."""
        if not _lie_on_grids(pieces):
            x = normalised(whole(pieces), self.eps)
            return self.finish(attend(self.queries[None], x, x, 1, mask, scale=1.0), latents)
        return self.finish(self._gather(pieces, mask).values(), latents)

    def part(self, pieces: Sequence[Piece], mask: Tensor | None) -> Gathered:
        """What the latents gather from some of the inputs, by the one head."""
        if not _lie_on_grids(pieces):
            x = normalised(whole(pieces), self.eps)
            return attend_part(self.queries[None], x, x, 1, mask, scale=1.0)
        return Gathered(*(x[:, None] for x in self._gather(pieces, mask)))

    def finish(self, gathered: Tensor, latents: Tensor) -> Tensor:
        """[B, N, D] of what was gathered from all inputs."""
        plus = latents.expand(len(gathered), -1, -1) if self.query_residual else None
        return self.out(gathered.to(self.queries.dtype), plus=plus)

    def _gather(self, pieces: Sequence[Piece], mask: Tensor | None) -> Gathered:
        """What the latents gather of the inputs as they are, [B, N, C]; a lane of its share of each piece."""
        device = self.queries.device
        count = lanes(max(piece.shape[1] for piece in pieces), device)
        shares = [Share(number, count) for number in range(count)]
        parts = side_by_side(lambda share: self._gather_share(pieces, mask, share), shares, device)
        return reduce(Gathered.plus, parts)

    def _gather_share(self, pieces: Sequence[Piece], mask: Tensor | None, share: Share) -> Gathered:
        """Of a share of each piece, one of them not empty."""
        begin = 0
        gathered: list[Gathered] = []
        for piece in pieces:
            some = share.of(piece.shape[1])
            if some.stop > some.start:
                bias = None if mask is None else mask[:, begin + some.start : begin + some.stop]
                part = piece[:, some]
                if isinstance(part, Placed) and (grid := part.grid(self.eps)) is not None:
                    found = self._gather_grid(grid, part, bias)
                else:
                    x = normalised(whole([part]), self.eps)
                    found = [gather(self.queries, x[unit], x[unit], _of(bias, unit)) for unit in _units(x)]
                gathered = _plus(gathered, found)
            begin += piece.shape[1]
        if gathered[0].found.ndim > 2:
            return gathered[0]
        return Gathered(*map(torch.stack, zip(*gathered, strict=True)))

    def _gather_grid(self, grid: Grid, piece: Placed, mask: Tensor | None) -> list[Gathered]:
        """The same of places on a grid, group by group of its rows; on a CPU [N, C] for each unit, see `_units`."""
        order, by_row, shared = [*grid.channels.column, *grid.channels.row], grid.by_row, grid.shared
        gathered: list[Gathered] = []
        for group, q in grid.against(self.queries[:, order], piece.begin, piece.begin + piece.shape[1]):
            here, end = slice(group.begin - piece.begin, group.end - piece.begin), shared + group.height
            x = grid.places(group, piece.features[:, here], q)
            bias, some = None if mask is None else mask[:, here], []
            for unit in _units(x):
                found, total, most = gather(q, x[unit], x[unit], _of(bias, unit))
                found = torch.cat([found[..., :shared], found[..., shared:end] @ by_row[group.rows]], dim=-1)
                some.append(Gathered(found, total, most))
            gathered = _plus(gathered, some)
        back = torch.tensor(order, device=by_row.device).argsort()
        return [Gathered(some.found[..., back], some.total, some.most) for some in gathered]


class Tail(nn.Module):
    """From what a query has gathered to its outputs: y, then A (y + W₂ act(W₁ LN(y))), for an affine map A that
    follows. A W₂ is one matrix, as narrow as the output.

    With `out`, y is that of what was gathered; without, [y; A y] was gathered: see `with_direct`.
    """

    def __init__(self, mlp: MLP, after: Affine, out: Affine | None, like: Tensor) -> None:
        super().__init__()
        self.out = None if out is None else out.linear(like)
        self.norm, self.up, self.activation = mlp.norm, mlp.up, mlp.activation
        self.width, self.outputs = after.weight.shape[1], len(after.weight)
        down = after.after(Affine.of(mlp.down))
        kind = Float32Linear if self.outputs <= FEW else Linear
        self.direct = None if out is None else linear(after.weight, None, like, kind)
        self.down = linear(*down, like, kind)

    def forward(self, x: Tensor) -> Tensor:
        """[B, P, out] from [B, P, V]."""
        if self.out is None or self.direct is None:
            y, direct = x[..., : self.width], x[..., self.width : self.width + self.outputs]
        else:
            y = self.out(x)
            direct = self.direct(y)
        return self.down(self.up(self.norm(y), activation=self.activation), plus=direct)


class NarrowTail(nn.Module):
    """The same where what is gathered, o [V], is narrower than y = W o + b: y is not formed at all.

    LayerNorm's mean is linear in [o; 1], so W₁ LN(y) = M [o; 1] / σ + u, and σ² = |R [o; 1]|² / width with R from a QR
    decomposition of the centred [W, b]. `x` must hold [o; 1] in its first V + 1 channels: see `with_one`.
    """

    def __init__(self, mlp: MLP, after: Affine, out: Affine, like: Tensor) -> None:
        super().__init__()
        self.activation, self.width, self.eps = mlp.activation, len(out.weight), mlp.norm.eps
        joint = torch.cat([out.weight, out.bias[:, None]], dim=1)
        centred = joint - joint.mean(dim=0)
        up, scale = Affine.of(mlp.up), mlp.norm.weight.double()
        root = torch.linalg.qr(centred, mode="r").R
        self.rows = len(root)
        first = torch.cat([root, after.weight @ joint])
        self.first = linear(_padded(first), None, like)
        hidden = (up.weight * scale) @ centred
        self.up = linear(_padded(hidden), up.weight @ mlp.norm.bias.double() + up.bias, like)
        self.down = after.after(Affine.of(mlp.down)).linear(like)

    def forward(self, x: Tensor) -> Tensor:
        """[B, P, out] from [o; 1; 0 …] [B, P, V + 1 and padding]."""
        first = self.first(x)
        root, direct = first[..., : self.rows], first[..., self.rows :]
        square = torch.linalg.vector_norm(root, dim=-1, keepdim=True, dtype=torch.float32).square()
        x = x * torch.rsqrt(square / self.width + self.eps).to(x.dtype)
        return self.down(self.up(x, activation=self.activation), plus=direct)


def with_direct(values: Affine, after: Affine) -> Affine:
    """Values y with A y beside them, and zeros to fill up. Gathered by itself A y is rounded once; A of a rounded y has
    the roundings of large terms that cancel each other."""
    direct = after.weight @ values.weight, after.weight @ values.bias
    extra = filling(len(values.weight) + len(direct[1]))
    weight = torch.cat([values.weight, direct[0], values.weight.new_zeros(extra, values.weight.shape[1])])
    return Affine(weight, torch.cat([values.bias, direct[1], values.bias.new_zeros(extra)]))


def with_one(values: Affine) -> Affine:
    """Values with one more channel that is 1 whatever the input, and zeros to fill up: softmax's weights sum to 1, so
    what is gathered of it is 1."""
    width, extra = len(values.weight), filling(len(values.weight) + 1) + 1
    weight = torch.cat([values.weight, values.weight.new_zeros(extra, values.weight.shape[1])])
    bias = torch.cat([values.bias, values.bias.new_zeros(extra)])
    bias[width] = 1
    return Affine(weight, bias)


def _lie_on_grids(pieces: Sequence[Piece]) -> bool:
    """Whether there is anything to be gathered by the rows of a grid."""
    return any(isinstance(piece, Placed) and piece.on_grid and piece.features.numel() for piece in pieces)


def _units(x: Tensor) -> Sequence[int | slice]:
    """On a CPU unit by unit, elsewhere all at once."""
    return range(len(x)) if x.device.type == "cpu" else [slice(None)]


def _plus(gathered: Sequence[Gathered], others: list[Gathered]) -> list[Gathered]:
    """Of the keys of both, for each unit; `gathered` is empty at first."""
    return [one.plus(other) for one, other in zip(gathered, others, strict=True)] if gathered else others


def _of(bias: Tensor | None, unit: int | slice) -> Tensor | None:
    return None if bias is None else bias[unit]


def _padded(weight: Tensor) -> Tensor:
    """With columns of zeros up to a multiple of ALIGN."""
    return F.pad(weight, (0, filling(weight.shape[1])))
