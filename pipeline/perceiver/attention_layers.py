"""Attention layers.

Shape letters: B units, M inputs, C input channels, N latents, D latent channels, O output queries, E query channels,
H heads, K query/key channels, V value channels.
"""

from collections.abc import Callable

from torch import Tensor, nn

from pipeline.perceiver.attention_kernels import attend
from pipeline.perceiver.onednn_linear import Linear


class SelfAttention(nn.Module):
    """Latents [B, N, D] attending to themselves: one product makes queries, keys and values."""

    def __init__(self, *, channels: int, qk_channels: int, v_channels: int, num_heads: int) -> None:
        super().__init__()
        _check_heads(qk_channels, v_channels, num_heads)
        self.num_heads = num_heads
        self.split = (qk_channels, qk_channels, v_channels)
        self.norm = nn.LayerNorm(channels)
        self.qkv = Linear(channels, sum(self.split))
        self.out = Linear(v_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).split(self.split, dim=-1)
        return self.out(attend(q, k, v, self.num_heads), plus=x)


class CrossAttention(nn.Module):
    """Queries [B, O, E] attending to inputs [B, M, C]: latents to the byte array, output queries to the latents."""

    def __init__(
        self,
        *,
        query_channels: int,
        input_channels: int,
        qk_channels: int,
        v_channels: int,
        num_heads: int,
        query_residual: bool,
    ) -> None:
        super().__init__()
        _check_heads(qk_channels, v_channels, num_heads)
        self.num_heads = num_heads
        self.split = (qk_channels, v_channels)
        self.query_residual = query_residual
        self.norm_queries = nn.LayerNorm(query_channels)
        self.norm_inputs = nn.LayerNorm(input_channels)
        self.query = Linear(query_channels, qk_channels)
        self.kv = Linear(input_channels, sum(self.split))
        self.out = Linear(v_channels, query_channels)

    def project_queries(self, queries: Tensor) -> Tensor:
        """[…, O, E] to […, O, K]."""
        return self.query(self.norm_queries(queries))

    def project_inputs(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Keys [B, M, K] and values [B, M, V] of inputs [B, M, C]."""
        keys, values = self.kv(self.norm_inputs(inputs)).split(self.split, dim=-1)
        return keys, values

    def forward(
        self, q: Tensor, keys: Tensor, values: Tensor, queries: Tensor | None, mask: Tensor | None = None
    ) -> Tensor:
        """[B, O, E] from projected queries [B or 1, O, K]; the raw `queries` are added where there is a residual."""
        return self.finish(attend(q, keys, values, self.num_heads, mask), queries)

    def finish(self, gathered: Tensor, queries: Tensor | None) -> Tensor:
        """[B, O, E] of what was gathered, [B, O, V]."""
        plus = queries.expand(len(gathered), -1, -1) if self.query_residual and queries is not None else None
        return self.out(gathered, plus=plus)


class MLP(nn.Module):
    """LayerNorm, two linear maps and an activation, on top of a residual path."""

    def __init__(self, *, channels: int, widening_factor: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.up = Linear(channels, widening_factor * channels)
        self.down = Linear(widening_factor * channels, channels)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(self.norm(x), activation=self.activation), plus=x)


class SelfLayer(nn.Module):
    """Self-attention and its MLP: latents [B, N, D] to latents."""

    def __init__(self, attention: SelfAttention, mlp: MLP) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.attention(x))


class CrossLayer(nn.Module):
    """Cross-attention and its MLP. Queries that never change are projected once: see `PositionQueries`."""

    def __init__(self, attention: CrossAttention, mlp: MLP) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = mlp

    def forward(
        self, q: Tensor, keys: Tensor, values: Tensor, queries: Tensor | None, mask: Tensor | None = None
    ) -> Tensor:
        return self.mlp(self.attention(q, keys, values, queries, mask))


def _check_heads(qk_channels: int, v_channels: int, num_heads: int) -> None:
    for name, channels in (("qk_channels", qk_channels), ("v_channels", v_channels)):
        if channels % num_heads:
            raise ValueError(f"{name} ({channels}) must be divisible by num_heads ({num_heads})")
