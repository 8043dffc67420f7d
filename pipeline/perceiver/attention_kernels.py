"""softmax(q kᵀ) v, by the way that was measured to be the fastest for the device and the shape.

Shape letters: B units, H heads, O queries, M keys, c channels of a head.

On the CPU each head is two matrix products over blocks whose scores stay in the cache, however many queries or keys
there are: torch's fused kernel reaches a third of that for one wide head, and as much for sixteen narrow ones. Small
heads in bfloat16 are done all at once, where calling for each of them would cost more than its product.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.perceiver.onednn_linear import is_fast, product

BLOCK = 1 << 21  # scores formed at a time on a CPU: 8 MB in float32
KEYS = 4096  # more are taken block by block, too
SMALL = 1 << 18  # scores of a head in bfloat16
CUDA_BYTES = 512 << 20  # of scores: a GPU wants fewer, larger products


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    num_heads: int,
    mask: Tensor | None = None,
    *,
    scale: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Values [B, O, V] gathered by softmax(scale · q kᵀ), by default 1 / √(K/H). Paper, section 3.1 and appendix E.

    q: [B, O, K], or [1, O, K] where every unit asks the same; k: [B, M, K]; v: [B, M, V].
    mask: [B, M], added to the scores: 0 where a key may be seen, the most negative number of the dtype where not.
    out: what they are written into.
    """
    if out is None:
        out = v.new_empty(k.shape[0], q.shape[1], v.shape[-1])
    if out.numel() == 0:  # no unit, or nothing asked
        return out
    q_BHOc, k_BHMc, v_BHMc, scale = _by_head(q, k, v, num_heads, scale)
    out_BHOc = _split_heads(out, num_heads)
    if is_fast(k) and not (k.dtype == torch.bfloat16 and num_heads > 1 and q.shape[1] * k.shape[1] <= SMALL):
        for unit in range(len(out)):
            for head in range(num_heads):
                asked = q_BHOc[unit, head] if scale == 1.0 else q_BHOc[unit, head] * scale
                bias = None if mask is None else mask[unit]
                one_head(asked, k_BHMc[unit, head], v_BHMc[unit, head], bias, out_BHOc[unit, head])
        return out
    bias = None if mask is None else mask[:, None, None, :]
    if k.device.type == "cuda" and q_BHOc.shape[-1] == v_BHMc.shape[-1] <= 256:  # where flash kernels stop
        out_BHOc.copy_(F.scaled_dot_product_attention(q_BHOc, k_BHMc, v_BHMc, attn_mask=bias, scale=scale))
        return out
    _all_heads(q_BHOc, k_BHMc, v_BHMc, bias, scale, out_BHOc)
    return out


class Gathered(NamedTuple):
    """What queries have gathered of some of the keys, in float32: of scores s the sums of exp(s - most) v [..., O, V],
    those of exp(s - most) [..., O, 1], and the greatest score, `most`."""

    found: Tensor
    total: Tensor
    most: Tensor

    def plus(self, other: Gathered) -> Gathered:
        """Of the keys of both. Takes over what this one holds."""
        most = torch.maximum(self.most, other.most)
        before, now = torch.exp(self.most - most), torch.exp(other.most - most)
        found = self.found.mul_(before).addcmul_(other.found, now)
        return Gathered(found, self.total * before + other.total * now, most)

    def values(self) -> Tensor:
        """[..., O, V] by softmax's weights. Takes over what this one holds."""
        return self.found.div_(self.total)

    def to(self, device: torch.device) -> Gathered:
        """The same on another device."""
        return Gathered(*(x.to(device) for x in self))


def attend_part(
    q: Tensor, k: Tensor, v: Tensor, num_heads: int, mask: Tensor | None = None, *, scale: float | None = None
) -> Gathered:
    """What `attend` gathers of some of the keys alone, by head [B, H, O, V / H]: `merged` makes of several parts what
    all of their keys give together."""
    q_BHOc, k_BHMc, v_BHMc, scale = _by_head(q, k, v, num_heads, scale)
    return gather(q_BHOc * scale, k_BHMc, v_BHMc, None if mask is None else mask[:, None].expand(-1, num_heads, -1))


def merged(parts: Iterable[Gathered]) -> Tensor:
    """[B, O, V], float32, of all keys from what was gathered of each part of them, all on one device."""
    return reduce(Gathered.plus, parts).values().transpose(1, 2).flatten(2)


def gather(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Gathered:
    """What queries [O, c] gather of keys [M, c] and values [M, V]; bias [M] is added to the scores. Of several units or
    heads at once keys [..., M, c], values [..., M, V] and bias [..., M], with queries of each or of all alike.

    By blocks of keys whose scores stay in the cache, each with the weight that its scores give it.
    """
    rows = BLOCK // 1024 if k.device.type == "cpu" else q.shape[-2]
    parts = [_gather(q[..., begin : begin + rows, :], k, v, bias) for begin in range(0, max(1, q.shape[-2]), rows)]
    return parts[0] if len(parts) == 1 else Gathered(*(torch.cat(some, dim=-2) for some in zip(*parts, strict=True)))


def _gather(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Gathered:
    """The same for so many queries as one block has."""
    if k.shape[-2] == 0:
        return _nothing(q, v)
    size, keys = (4 * BLOCK if k.device.type == "cpu" else CUDA_BYTES), k.shape[-2]
    blocks = -(-keys // max(1024, size // (q.element_size() * q.shape[-2] * max(1, k[..., 0, 0].numel()))))
    columns = -(-keys // blocks)
    gathered = None
    for begin in range(0, keys, columns):
        some = slice(begin, begin + columns)
        scores = _scores(q, k[..., some, :], None if bias is None else bias[..., some])
        most = _greatest(scores)
        weights = _softmax(scores)
        # The greatest weight is exp(0) / sum: what the sum was, without a pass over the exponentials.
        total = _greatest(weights).reciprocal()
        found = _weighted(weights, v[..., some, :])
        here = Gathered(found.to(total.dtype).mul_(total), total, most)
        gathered = here if gathered is None else gathered.plus(here)
    assert gathered is not None
    return gathered


def _nothing(q: Tensor, v: Tensor) -> Gathered:
    """What is gathered of no keys: it counts for nothing beside any others."""
    total = torch.zeros(*v.shape[:-2], q.shape[-2], 1, device=v.device)
    return Gathered(total.expand(*total.shape[:-1], v.shape[-1]).clone(), total, torch.full_like(total, -math.inf))


def one_head(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Into out [O, V] what queries [O, c] gather of keys [M, c] and values [M, V]; bias [M] is added to the scores."""
    if len(k) > KEYS:
        out.copy_(gather(q, k, v, bias).values())
        return
    k, v = k.contiguous(), v.T.contiguous().T
    blocks = -(-len(q) // max(1, BLOCK // len(k)))
    rows = -(-len(q) // blocks)  # all alike: a small last one is slower
    for begin in range(0, len(q), rows):
        weights, here = _softmax(product(q[begin : begin + rows], k, bias)), out[begin : begin + rows]
        if here.dtype == torch.bfloat16:
            torch.mm(weights, v, out=here)
        else:
            here.copy_(_weighted(weights, v))


def _all_heads(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, out: Tensor) -> None:
    """The same for all units and heads in one product, as many queries at a time as fit."""
    scores_of_a_query = k.shape[0] * k.shape[1] * k.shape[2]
    most = 2 * BLOCK if k.device.type == "cpu" else CUDA_BYTES // k.element_size()
    rows = max(1, most // scores_of_a_query)
    for begin in range(0, q.shape[2], rows):
        some = q[:, :, begin : begin + rows]
        scores = torch.matmul(some if scale == 1.0 else some * scale, k.transpose(-1, -2))
        if bias is not None:
            scores += bias
        out[:, :, begin : begin + rows] = torch.matmul(_softmax(scores), v)


def _softmax(scores: Tensor) -> Tensor:
    """In place: a second matrix of scores would push the first out of the cache."""
    return torch.softmax(scores, dim=-1, out=scores)


def _scores(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    if k.ndim == 2:
        return product(q, k, bias)
    scores = torch.matmul(q.expand(*k.shape[:-2], -1, -1), k.mT)
    return scores if bias is None else scores.add_(bias[..., None, :])


def _greatest(x: Tensor) -> Tensor:
    """The greatest number of each row [..., 1], float32 at the least.

    torch's way to that of bfloat16 takes six times as long as to that of integers of as many bits. They are in the same
    order, but negative numbers among themselves, which are in the reverse.
    """
    if x.dtype != torch.bfloat16 or x.device.type != "cpu":
        most = x.amax(dim=-1, keepdim=True)
        return most if x.dtype == torch.float64 else most.float()
    bits = x.view(torch.int16)
    most = bits.amax(dim=-1, keepdim=True)
    if most.min() < 0:
        most = torch.where(most < 0, bits.amin(dim=-1, keepdim=True), most)
    return most.view(torch.bfloat16).float()


def _weighted(weights: Tensor, v: Tensor) -> Tensor:
    """[O, V]: weights [O, M] times values [M, V]. torch's own product is as fast in bfloat16, and copies no values."""
    return weights @ v if v.dtype == torch.bfloat16 or v.ndim > 2 else product(weights, v.T)


def _by_head(
    q: Tensor, k: Tensor, v: Tensor, num_heads: int, scale: float | None
) -> tuple[Tensor, Tensor, Tensor, float]:
    """Queries (of every unit), keys and values as [B, H, L, c], and the scale of their scores."""
    q, k, v = (_split_heads(x, num_heads) for x in (q, k, v))
    return q.expand(len(k), -1, -1, -1), k, v, q.shape[-1] ** -0.5 if scale is None else scale


def _split_heads(x: Tensor, num_heads: int) -> Tensor:
    """[B, L, H·c] seen as [B, H, L, c], without a copy."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)
