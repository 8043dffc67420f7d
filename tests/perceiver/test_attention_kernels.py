"""Attention by blocks, heads and merged sums is softmax(q kᵀ) v, whichever way is taken."""

import math

import pytest
import torch

from pipeline.perceiver import attention_kernels, partial_attention
from pipeline.perceiver.attention_kernels import attend, attend_partial_heads, merge_heads
from pipeline.perceiver.partial_attention import row_max

# B, H, O, M, channels of a head, value channels of a head
FEW_KEYS, MANY_KEYS, NARROW = (2, 1, 70, 90, 24, 40), (2, 1, 33, 5000, 17, 17), (2, 4, 50, 60, 8, 8)


def draw(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    units, heads, queries, keys, width, value_width = shape
    generator = torch.Generator().manual_seed(0)
    sizes = (queries, heads * width), (keys, heads * width), (keys, heads * value_width)
    q, k, v = (torch.randn(units, *size, generator=generator).to(dtype) for size in sizes)
    return 3 * q, k, v


def expected(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, mask: torch.Tensor | None, scale: float | None
) -> torch.Tensor:
    """By its definition, in float64."""
    q, k, v = (x.double().unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if mask is not None:
        scores = scores + mask.double()[:, None, None]
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("small_blocks", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [FEW_KEYS, MANY_KEYS, NARROW])
def test_attention_equals_its_definition(
    shape: tuple[int, ...], masked: bool, dtype: torch.dtype, small_blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small_blocks:  # several blocks of queries, of keys, and heads one by one in bfloat16 too
        monkeypatch.setattr(attention_kernels, "SCORES_PER_BLOCK", 2500)
        monkeypatch.setattr(partial_attention, "SCORES_PER_BLOCK", 2500)
        monkeypatch.setattr(attention_kernels, "MAX_KEYS_PER_BLOCK", 1000)
        monkeypatch.setattr(attention_kernels, "FEW_SCORES", 0)
    q, k, v = draw(shape, dtype)
    mask = None
    if masked:
        mask = torch.zeros(k.shape[:2], dtype=dtype)
        mask[:, ::3] = torch.finfo(dtype).min
        mask[0, -40:] = torch.finfo(dtype).min
    found, wanted = attend(q, k, v, shape[1], mask), expected(q, k, v, shape[1], mask, None)
    error = float((found.double() - wanted).abs().max() / (wanted.max() - wanted.min()))
    assert found.dtype == dtype
    assert error < {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 0.015}[dtype]


def test_queries_shared_by_all_units_with_a_scale() -> None:
    q, k, v = draw(MANY_KEYS, torch.float32)
    found, wanted = attend(q[:1], k, v, 1, scale=0.1), expected(q[:1], k, v, 1, None, 0.1)
    assert torch.allclose(found.double(), wanted, atol=1e-6)


@pytest.mark.parametrize("shape", [FEW_KEYS, MANY_KEYS, NARROW])
def test_partial_attention_over_parts_of_the_keys_is_merged(shape: tuple[int, ...]) -> None:
    q, k, v = draw(shape, torch.float32)
    mask = torch.zeros(k.shape[:2])
    mask[:, ::3] = torch.finfo(torch.float32).min
    wanted, some = expected(q, k, v, shape[1], mask, None), shape[3] // 3
    slices = slice(0, 0), slice(0, some), slice(some, some), slice(some, shape[3])
    found = merge_heads(attend_partial_heads(q, k[:, each], v[:, each], shape[1], mask[:, each]) for each in slices)
    assert torch.allclose(found.double(), wanted, atol=3e-6)


@pytest.mark.parametrize("shape", [FEW_KEYS, MANY_KEYS])
def test_unit_whose_keys_are_all_masked_stays_finite(shape: tuple[int, ...]) -> None:
    q, k, v = draw(shape, torch.float32)
    mask = torch.full(k.shape[:2], torch.finfo(torch.float32).min)
    assert attend(q, k, v, 1, mask).isfinite().all()


def test_values_that_are_not_finite_stay_visible() -> None:
    q, k, v = draw(MANY_KEYS, torch.float32)
    k[1, 4999] = float("nan")
    found = attend(q, k, v, 1)
    assert found[0].isfinite().all()
    assert found[1].isnan().all()


def test_scores_far_apart_between_blocks_of_keys() -> None:
    """A block whose best score is thousands below another's counts for nothing, and overflows nothing."""
    q, k = torch.ones(1, 3, 4), torch.zeros(1, 5000, 4)
    k[:, -1] = 5000.0
    v = torch.arange(5000.0)[None, :, None].expand(-1, -1, 2).contiguous()
    assert torch.equal(attend(q, k, v, 1), torch.full((1, 3, 2), 4999.0))


def test_maximum_of_bfloat16_is_found_among_negative_numbers():
    x = torch.randn(64, 300).to(torch.bfloat16)
    x[:16] = -x[:16].abs()
    x[16:20] = float("-inf")
    x[20, 5] = float("inf")
    x[21] = -0.0
    x[22, 1:] = torch.finfo(torch.bfloat16).min
    assert torch.equal(row_max(x), x.float().amax(dim=-1, keepdim=True))
    x[23, 7] = float("nan")
    assert row_max(x)[23].isnan()
