"""Affine maps in float64, for products of weights that are formed once when a model is loaded.

x̂ is an input or a query after LayerNorm, without the norm's scale and shift.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.perceiver.onednn_linear import Linear


class Affine(NamedTuple):
    """y = weight x + bias in float64. weight: [out, in]; bias: [out]."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, linear: nn.Linear) -> Affine:
        """Return the map of a module."""
        weight = linear.weight.double()
        return cls(weight, weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.double())

    @classmethod
    def identity(cls, channels: int) -> Affine:
        """Return the map that changes nothing."""
        return cls(torch.eye(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64))

    @classmethod
    def scale_of(cls, norm: nn.LayerNorm) -> Affine:
        """Return the norm's scale and shift: the map from x̂ to its output."""
        return cls(torch.diag(norm.weight.double()), norm.bias.double())

    @classmethod
    def centring(cls, channels: int) -> Affine:
        """Return the map from x to x - mean x."""
        weight, bias = cls.identity(channels)
        return cls(weight - 1 / channels, bias)

    def after(self, first: Affine) -> Affine:
        """Return the composition: this map applied to the output of `first`."""
        return Affine(self.weight @ first.weight, self.weight @ first.bias + self.bias)

    def rows(self, begin: int, end: int | None = None) -> Affine:
        """Return the map to the outputs from `begin` to `end` only."""
        return Affine(self.weight[begin:end], self.bias[begin:end])


def make_linear(weight: Tensor, bias: Tensor | None, like: Tensor, kind: type[Linear] = Linear) -> Linear:
    """Return a linear module with this weight [out, in] and bias [out], in the dtype and on the device of `like`."""
    module = kind(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    module.weight = frozen_parameter(weight, like)
    if bias is not None:
        module.bias = frozen_parameter(bias, like)
    return module


def frozen_parameter(value: Tensor, like: Tensor) -> nn.Parameter:
    """Return a parameter without gradient, in the dtype and on the device of `like`."""
    return nn.Parameter(value.to(like.device, like.dtype).contiguous(), requires_grad=False)


def standardise(x: Tensor, eps: float) -> Tensor:
    """Return x̂ = (x - mean) / √(variance + eps) over the channels of x [..., C]."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)
