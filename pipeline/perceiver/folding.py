"""Products of weights that inference may form once, when a model is loaded: exact up to rounding, formed in float64.

Shape letters as in `attention`. x̂ is an input or a query after LayerNorm, without its scale and shift.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.perceiver.attend import attend, attend_part
from pipeline.perceiver.attention import MLP, CrossAttention
from pipeline.perceiver.linear import Float32Linear, Linear

FEW = 16  # outputs: so narrow a map is computed in float32
ALIGN = 16  # channels: products over widths that are no multiple of it are slower


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
    does not see it.
    """

    def __init__(self, attention: CrossAttention, latents: Tensor) -> None:
        super().__init__()
        like, split = attention.kv.weight, attention.split
        kv = Affine.of(attention.kv).after(Affine.scale_of(attention.norm_inputs))
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

    def forward(self, inputs: Tensor, latents: Tensor, mask: Tensor | None) -> Tensor:
        """[B, N, D] as `CrossAttention` gives it, from inputs [B, M, C]; mask [B, M] is added to the scores."""
        x = normalised(inputs, self.eps)
        return self.finish(attend(self.queries[None], x, x, 1, mask, scale=1.0), latents)

    def part(self, inputs: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the latents gather from some of the inputs, for `merge`."""
        x = normalised(inputs, self.eps)
        return attend_part(self.queries[None], x, x, 1, mask, scale=1.0)

    def finish(self, gathered: Tensor, latents: Tensor) -> Tensor:
        """[B, N, D] of what was gathered from all inputs."""
        return self.out(gathered, plus=latents.expand(len(gathered), -1, -1) if self.query_residual else None)


class Tail(nn.Module):
    """From what a query has gathered to its outputs: y, then A (y + W₂ act(W₁ LN(y))), for an affine map A that
    follows. A W₂ is one matrix, as narrow as the output."""

    def __init__(self, mlp: MLP, after: Affine, out: Affine | None, like: Tensor) -> None:
        super().__init__()
        self.out = None if out is None else out.linear(like)
        self.norm, self.up, self.activation = mlp.norm, mlp.up, mlp.activation
        down = after.after(Affine.of(mlp.down))
        kind = Float32Linear if len(after.weight) <= FEW else Linear
        self.direct = linear(after.weight, None, like, kind)
        self.down = linear(*down, like, kind)

    def forward(self, x: Tensor) -> Tensor:
        """[B, P, out] from [B, P, V]."""
        y = x if self.out is None else self.out(x)
        hidden = self.up(self.norm(y), activation=self.activation)
        return self.down(hidden, plus=self.direct(y))


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


def with_one(values: Affine) -> Affine:
    """Values with one more channel that is 1 whatever the input, and zeros to fill up: softmax's weights sum to 1, so
    what is gathered of it is 1."""
    width, extra = len(values.weight), filling(len(values.weight) + 1) + 1
    weight = torch.cat([values.weight, values.weight.new_zeros(extra, values.weight.shape[1])])
    bias = torch.cat([values.bias, values.bias.new_zeros(extra)])
    bias[width] = 1
    return Affine(weight, bias)


def filling(width: int) -> int:
    """How many channels are lacking to a multiple of ALIGN."""
    return -width % ALIGN


def _padded(weight: Tensor) -> Tensor:
    """With columns of zeros up to a multiple of ALIGN."""
    return F.pad(weight, (0, filling(weight.shape[1])))
