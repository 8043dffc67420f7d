"""The encoder: inputs of any length to a fixed number of latents. Paper, section 3.1.

Shape letters: B units, M inputs, C input channels, N latents, D latent channels.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from pipeline.perceiver.absorbed_attention import AbsorbedAttention
from pipeline.perceiver.attention_kernels import attend_partial_heads, merge_heads
from pipeline.perceiver.attention_layers import CrossLayer, SelfLayer
from pipeline.perceiver.partial_attention import PartialAttention
from pipeline.perceiver.preprocessors import InputPart, to_inputs
from pipeline.perceiver.tensor_cache import TensorCache


class Encoder(nn.Module):
    """Cross-attention from the latents to the inputs, then `num_blocks` times the same self-attention layers."""

    def __init__(
        self, *, num_latents: int, channels: int, cross: CrossLayer, layers: list[SelfLayer], num_blocks: int
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(num_latents, channels))
        self.cross, self.layers, self.num_blocks = cross, nn.ModuleList(layers), num_blocks
        self.absorbed: AbsorbedAttention | None = None
        self._projected: TensorCache[Tensor] = TensorCache()

    def fold(self) -> None:
        """Absorb the projections of the inputs if that saves work; their weights are then deleted."""
        attention = self.cross.attention
        if AbsorbedAttention.pays(attention, self.latents):
            self.absorbed = AbsorbedAttention(attention, self.latents)
            del self.cross.attention

    def forward(self, parts: Sequence[InputPart], mask: Tensor | None = None) -> Tensor:
        """Return latents [B, N, D] from parts of inputs [B, M, C]; mask: [B, M], added to the scores."""
        if self.absorbed is not None:
            return self._self_attend(self.cross.mlp(self.absorbed(parts, self.latents, mask)))
        keys, values = self.cross.attention.project_inputs(to_inputs(parts))
        return self._self_attend(self.cross(self._queries(), keys, values, self.latents, mask))

    def attend_partial(self, parts: Sequence[InputPart], mask: Tensor | None = None) -> PartialAttention:
        """Return the latents' attention over some of the inputs, by head; `finish` completes that over all inputs."""
        if self.absorbed is not None:
            return self.absorbed.attend_partial(parts, mask)
        attention = self.cross.attention
        keys, values = attention.project_inputs(to_inputs(parts))
        return attend_partial_heads(self._queries(), keys, values, attention.num_heads, mask)

    def finish(self, attended: Iterable[PartialAttention]) -> Tensor:
        """Return latents [B, N, D] from the attention over all inputs, in parts on this encoder's device."""
        attention = self.cross.attention if self.absorbed is None else self.absorbed
        merged = merge_heads(attended).to(self.latents.dtype)
        return self._self_attend(self.cross.mlp(attention.finish(merged, self.latents)))

    def _self_attend(self, x: Tensor) -> Tensor:
        for _ in range(self.num_blocks):
            for layer in self.layers:
                x = layer(x)
        return x

    def _queries(self) -> Tensor:
        """Return the latents as projected queries [1, N, K]."""
        attention = self.cross.attention
        return self._projected.get(self.latents, "latents", lambda: attention.project_queries(self.latents)[None])
