"""softmax(q kᵀ) v, computed in the way that was measured to be fastest for the device and shape.

Shape letters: B units, H heads, O queries, M keys, c channels of a head, K = H·c, V value channels.

On a CPU each head is two matrix products over blocks whose scores stay in the cache, for any number of queries and
keys: for one wide head this is three times as fast as torch's fused kernel, for sixteen narrow ones equally fast. In
bfloat16, heads with few scores are computed together, since a call for each would cost more than its product.
"""

from collections.abc import Iterable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.perceiver.onednn_linear import linear, uses_onednn
from pipeline.perceiver.partial_attention import (
    CUDA_SCORE_BYTES,
    SCORES_PER_BLOCK,
    PartialAttention,
    attend_partial,
    softmax_,
    weighted_sum,
)

MAX_KEYS_PER_BLOCK = 4096  # with more keys, these are split into blocks as well as the queries
FEW_SCORES = 1 << 18  # scores of one head in bfloat16 up to which heads are computed together
FLASH_CHANNELS = 256  # channels of a head up to which torch has flash kernels


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
    """Return softmax(scale · q kᵀ + mask) v, [B, O, V]; scale is 1 / √(K/H) by default. Paper, section 3.1, appendix E.

    q: [B, O, K], or [1, O, K] for the same queries in every unit; k: [B, M, K]; v: [B, M, V].
    mask: [B, M], added to the scores: 0 for visible keys, the most negative number of the dtype for hidden ones.
    out: tensor to write the result into.
    """
    if out is None:
        out = v.new_empty(k.shape[0], q.shape[1], v.shape[-1])
    if out.numel() == 0:
        return out
    q_BHOc, k_BHMc, v_BHMc, scale = _split_all_heads(q, k, v, num_heads, scale)
    out_BHOc = _split_heads(out, num_heads)
    few_scores = k.dtype == torch.bfloat16 and num_heads > 1 and q.shape[1] * k.shape[1] <= FEW_SCORES
    if uses_onednn(k) and not few_scores:
        for b in range(len(out)):
            for h in range(num_heads):
                scaled = q_BHOc[b, h] if scale == 1.0 else q_BHOc[b, h] * scale
                _attend_one_head(scaled, k_BHMc[b, h], v_BHMc[b, h], None if mask is None else mask[b], out_BHOc[b, h])
        return out
    bias = None if mask is None else mask[:, None, None, :]
    if k.device.type == "cuda" and q_BHOc.shape[-1] == v_BHMc.shape[-1] <= FLASH_CHANNELS:
        out_BHOc.copy_(F.scaled_dot_product_attention(q_BHOc, k_BHMc, v_BHMc, attn_mask=bias, scale=scale))
    else:
        _attend_all_heads(q_BHOc, k_BHMc, v_BHMc, bias, scale, out_BHOc)
    return out


def attend_partial_heads(q: Tensor, k: Tensor, v: Tensor, num_heads: int, mask: Tensor | None) -> PartialAttention:
    """Return the attention of `attend` over these keys alone, by head: values [B, H, O, V / H]."""
    q_BHOc, k_BHMc, v_BHMc, scale = _split_all_heads(q, k, v, num_heads, None)
    bias = None if mask is None else mask[:, None].expand(-1, num_heads, -1)
    return attend_partial(q_BHOc * scale, k_BHMc, v_BHMc, bias)


def merge_heads(parts: Iterable[PartialAttention]) -> Tensor:
    """Return the attention over the keys of all parts of `attend_partial_heads`, [B, O, V], float32 or float64."""
    return reduce(PartialAttention.merge, parts).normalise().transpose(1, 2).flatten(2)


def _attend_one_head(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Write the attention of queries [O, c] over keys [M, c] and values [M, V] into out [O, V]; bias: [M]."""
    if len(k) > MAX_KEYS_PER_BLOCK:
        out.copy_(attend_partial(q, k, v, bias).normalise())
        return
    k, v = k.contiguous(), v.T.contiguous().T
    blocks = -(-len(q) // max(1, SCORES_PER_BLOCK // len(k)))
    rows = -(-len(q) // blocks)  # blocks of equal size: a small last one is slower
    for begin in range(0, len(q), rows):
        weights, block = softmax_(linear(q[begin : begin + rows], k, bias)), out[begin : begin + rows]
        if block.dtype == torch.bfloat16:
            torch.mm(weights, v, out=block)
        else:
            block.copy_(weighted_sum(weights, v))


def _attend_all_heads(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, out: Tensor) -> None:
    """Attend for all units and heads in one product, to as many queries at a time as their scores allow."""
    scores_per_query = k.shape[0] * k.shape[1] * k.shape[2]
    most = 2 * SCORES_PER_BLOCK if k.device.type == "cpu" else CUDA_SCORE_BYTES // k.element_size()
    rows = max(1, most // scores_per_query)
    for begin in range(0, q.shape[2], rows):
        some = q[:, :, begin : begin + rows]
        scores = torch.matmul(some if scale == 1.0 else some * scale, k.transpose(-1, -2))
        if bias is not None:
            scores += bias
        out[:, :, begin : begin + rows] = torch.matmul(softmax_(scores), v)


def _split_all_heads(
    q: Tensor, k: Tensor, v: Tensor, num_heads: int, scale: float | None
) -> tuple[Tensor, Tensor, Tensor, float]:
    """Return queries (for every unit), keys and values as [B, H, L, c], and the scale of their scores."""
    q, k, v = (_split_heads(x, num_heads) for x in (q, k, v))
    return q.expand(len(k), -1, -1, -1), k, v, q.shape[-1] ** -0.5 if scale is None else scale


def _split_heads(x: Tensor, num_heads: int) -> Tensor:
    """View [B, L, H·c] as [B, H, L, c]."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)
