"""Attention layers: self-attention, cross-attention and the MLP that follows each.

Shape letters: B units, M inputs, C input channels, N latents, D latent channels, O output queries, E query channels,
K query/key channels, V value channels.
"""

from typing import Generic, TypeAlias, TypeVar

from torch import Tensor, nn

from pipeline.perceiver.activations import Activation
from pipeline.perceiver.attention_kernels import attend
from pipeline.perceiver.onednn_linear import Linear

A = TypeVar("A", bound=nn.Module)


class SelfAttention(nn.Module):
    """Self-attention of latents [B, N, D], with a residual; one product makes queries, keys and values."""

    def __init__(self, *, channels: int, qk_channels: int, v_channels: int, num_heads: int) -> None:
        super().__init__()
        _check_heads(qk_channels, v_channels, num_heads)
        self.num_heads, self.split = num_heads, (qk_channels, qk_channels, v_channels)
        self.norm = nn.LayerNorm(channels)
        self.qkv = Linear(channels, sum(self.split))
        self.out = Linear(v_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).split(self.split, dim=-1)
        return self.out(attend(q, k, v, self.num_heads), residual=x)


class CrossAttention(nn.Module):
    """Attention of queries [B, O, E] to inputs [B, M, C]: of latents to inputs, or of output queries to latents."""

    def __init__(
        self,
        *,
        query_channels: int,
        input_channels: int,
        qk_channels: int,
        v_channels: int | None = None,
        num_heads: int = 1,
        query_residual: bool = False,
    ) -> None:
        """v_channels equals qk_channels by default."""
        super().__init__()
        v_channels = v_channels or qk_channels
        _check_heads(qk_channels, v_channels, num_heads)
        self.num_heads, self.split, self.query_residual = num_heads, (qk_channels, v_channels), query_residual
        self.norm_queries = nn.LayerNorm(query_channels)
        self.norm_inputs = nn.LayerNorm(input_channels)
        self.query = Linear(query_channels, qk_channels)
        self.kv = Linear(input_channels, sum(self.split))
        self.out = Linear(v_channels, query_channels)

    def project_queries(self, queries: Tensor) -> Tensor:
        """Return projected queries [..., O, K] of raw queries [..., O, E]."""
        return self.query(self.norm_queries(queries))

    def project_inputs(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys [B, M, K] and values [B, M, V] of inputs [B, M, C]."""
        keys, values = self.kv(self.norm_inputs(inputs)).split(self.split, dim=-1)
        return keys, values

    def forward(
        self, q: Tensor, keys: Tensor, values: Tensor, queries: Tensor | None, mask: Tensor | None = None
    ) -> Tensor:
        """Return [B, O, E] for projected queries q [B or 1, O, K]; see `finish` for `queries`."""
        return self.finish(attend(q, keys, values, self.num_heads, mask), queries)

    def finish(self, attended: Tensor, queries: Tensor | None) -> Tensor:
        """Return [B, O, E] from attended values [B, O, V], plus the raw `queries` if the layer has a residual."""
        residual = queries.expand(len(attended), -1, -1) if self.query_residual and queries is not None else None
        return self.out(attended, residual=residual)


class MLP(nn.Module):
    """LayerNorm, two linear maps with an activation between them, and a residual."""

    def __init__(self, *, channels: int, widening_factor: int, activation: Activation) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.up = Linear(channels, widening_factor * channels)
        self.down = Linear(widening_factor * channels, channels)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(self.norm(x), activation=self.activation), residual=x)


class Layer(nn.Module, Generic[A]):
    """Attention and its MLP."""

    def __init__(self, attention: A, mlp: MLP) -> None:
        super().__init__()
        self.attention, self.mlp = attention, mlp

    def forward(self, *inputs: Tensor | None) -> Tensor:
        """Return the MLP's output for what the attention makes of `inputs`."""
        return self.mlp(self.attention(*inputs))


SelfLayer: TypeAlias = Layer[SelfAttention]
CrossLayer: TypeAlias = Layer[CrossAttention]


def _check_heads(qk_channels: int, v_channels: int, num_heads: int) -> None:
    for name, channels in (("qk_channels", qk_channels), ("v_channels", v_channels)):
        if channels % num_heads:
            raise ValueError(f"{name} ({channels}) must be divisible by num_heads ({num_heads})")
