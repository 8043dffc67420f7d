"""Attention over some of the keys, with the sums needed to merge it with attention over the others.

Shape letters: O queries, M keys, c channels, V value channels.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.perceiver.batching import concat
from pipeline.perceiver.onednn_linear import linear

SCORES_PER_BLOCK = 1 << 21  # scores formed at a time on a CPU: 8 MB in float32, so that they stay in the cache
CUDA_SCORE_BYTES = 512 << 20  # scores formed at a time on a GPU, in bytes: it needs fewer, larger products


class PartialAttention(NamedTuple):
    """Attention over some keys, in float32 or float64, for scores s and max_score = max s over those keys.

    values: Σ exp(s - max_score) v, [..., O, V]. weights: Σ exp(s - max_score), [..., O, 1]. max_score: [..., O, 1].
    """

    values: Tensor
    weights: Tensor
    max_score: Tensor

    def merge(self, other: PartialAttention) -> PartialAttention:
        """Return the attention over the keys of both. Overwrites the values of this one."""
        max_score = torch.maximum(self.max_score, other.max_score)
        factor, other_factor = torch.exp(self.max_score - max_score), torch.exp(other.max_score - max_score)
        values = self.values.mul_(factor).addcmul_(other.values, other_factor)
        return PartialAttention(values, self.weights * factor + other.weights * other_factor, max_score)

    def normalise(self) -> Tensor:
        """Return softmax(s) v, [..., O, V]. Overwrites the values of this one."""
        return self.values.div_(self.weights)

    def to(self, device: torch.device) -> PartialAttention:
        """Return a copy on `device`."""
        return PartialAttention(*(x.to(device) for x in self))


def attend_partial(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> PartialAttention:
    """Return the attention of queries [O, c] or [..., O, c] over keys [..., M, c] with values [..., M, V].

    bias: [..., M], added to the scores.
    """
    if k.ndim > 2 and len(k) and _one_matrix_at_a_time(k):
        q = q.expand(len(k), *q.shape[-2:]) if q.ndim == 2 else q
        each = (attend_partial(q[i], k[i], v[i], None if bias is None else bias[i]) for i in range(len(k)))
        return PartialAttention(*map(torch.stack, zip(*each, strict=True)))
    rows = SCORES_PER_BLOCK // 1024 if k.device.type == "cpu" else q.shape[-2]
    blocks = [_attend_key_blocks(rows_q, k, v, bias) for rows_q in q.split(max(1, rows), dim=-2)]
    return PartialAttention(*(concat(some, dim=-2) for some in zip(*blocks, strict=True)))


def softmax_(scores: Tensor) -> Tensor:
    """Apply softmax in place: a second matrix of scores would push the first out of the cache."""
    return torch.softmax(scores, dim=-1, out=scores)


def weighted_sum(weights: Tensor, v: Tensor) -> Tensor:
    """Return weights [O, M] times values [M, V]. In bfloat16 torch's product is as fast, and does not copy v."""
    return weights @ v if v.dtype == torch.bfloat16 or v.ndim > 2 else linear(weights, v.T)


def _one_matrix_at_a_time(k: Tensor) -> bool:
    """Return whether batches are attended to one matrix after another, for products of two matrices by oneDNN."""
    return k.device.type == "cpu"


def _attend_key_blocks(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> PartialAttention:
    """Attend with the queries of one block, to one block of keys at a time."""
    keys = k.shape[-2]
    if keys == 0:  # no weight, and a finite score, so that two of them can be merged
        weights = torch.zeros(*v.shape[:-2], q.shape[-2], 1, device=v.device)
        values = weights.expand(*weights.shape[:-1], v.shape[-1]).clone()
        return PartialAttention(values, weights, torch.full_like(weights, torch.finfo(weights.dtype).min))
    size = 4 * SCORES_PER_BLOCK if k.device.type == "cpu" else CUDA_SCORE_BYTES
    blocks = -(-keys // max(1024, size // (q.element_size() * q.shape[-2] * max(1, k[..., 0, 0].numel()))))
    columns = -(-keys // blocks)
    parts = (
        _attend_block(q, k[..., some, :], v[..., some, :], None if bias is None else bias[..., some])
        for some in (slice(begin, begin + columns) for begin in range(0, keys, columns))
    )
    return reduce(PartialAttention.merge, parts)


def _attend_block(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> PartialAttention:
    if k.ndim == 2:
        scores = linear(q, k, bias)
    else:
        scores = torch.matmul(q.expand(*k.shape[:-2], -1, -1), k.mT)
        scores = scores if bias is None else scores.add_(bias[..., None, :])
    max_score = row_max(scores)
    weights = softmax_(scores)
    # The greatest weight is exp(0) / Σ exp(s - max_score): its inverse is that sum, without another pass over them.
    total = row_max(weights).reciprocal()
    return PartialAttention(weighted_sum(weights, v).to(total.dtype).mul_(total), total, max_score)


def row_max(x: Tensor) -> Tensor:
    """Return the greatest number of each row, [..., 1], in float32, or float64 for float64.

    On a CPU, torch takes six times as long for bfloat16 as for int16. Read as integers, positive bfloat16 numbers keep
    their order and negative ones reverse it.
    """
    if x.dtype != torch.bfloat16 or x.device.type != "cpu":
        greatest = x.amax(dim=-1, keepdim=True)
        return greatest if x.dtype == torch.float64 else greatest.float()
    bits = x.view(torch.int16)
    greatest = bits.amax(dim=-1, keepdim=True)
    if greatest.min() < 0:
        greatest = torch.where(greatest < 0, bits.amin(dim=-1, keepdim=True), greatest)
    return greatest.view(torch.bfloat16).float()
