"""The encoder: inputs of any length into a fixed number of latents. Paper, section 3.1."""

import torch
from torch import Tensor, nn

from pipeline.perceiver.attention import CrossLayer, SelfLayer
from pipeline.perceiver.constants import Constant
from pipeline.perceiver.folding import AbsorbedAttention


class Encoder(nn.Module):
    """Cross-attention from the latents to the inputs, then `num_blocks` times the same self-attention layers."""

    def __init__(
        self, *, num_latents: int, channels: int, cross: CrossLayer, layers: list[SelfLayer], num_blocks: int
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(num_latents, channels))
        self.cross = cross
        self.layers = nn.ModuleList(layers)
        self.num_blocks = num_blocks
        self.absorbed: AbsorbedAttention | None = None
        self._projected = Constant()

    def fold(self) -> None:
        """Absorb the projections of the inputs where that pays: their weights are gone then."""
        attention = self.cross.attention
        if AbsorbedAttention.pays(attention, self.latents):
            self.absorbed = AbsorbedAttention(attention, self.latents)
            del self.cross.attention

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Latents [B, N, D] from inputs [B, M, C]; mask [B, M] is added to the scores of the inputs."""
        x = self._gathered(inputs, mask)
        for _ in range(self.num_blocks):
            for layer in self.layers:
                x = layer(x)
        return x

    def _gathered(self, inputs: Tensor, mask: Tensor | None) -> Tensor:
        """What the latents gather from the inputs, after the layer's MLP."""
        if self.absorbed is not None:
            absorbed: Tensor = self.cross.mlp(self.absorbed(inputs, self.latents, mask))
            return absorbed
        attention = self.cross.attention
        q = self._projected.get(self.latents, "latents", lambda: attention.project_queries(self.latents))
        keys, values = attention.project_inputs(inputs)
        gathered: Tensor = self.cross(q[None], keys, values, self.latents, mask)
        return gathered
