"""The encoder: inputs of any length into a fixed number of latents. Paper, section 3.1."""

import torch
from torch import Tensor, nn

from pipeline.perceiver.attention import CrossLayer, SelfLayer
from pipeline.perceiver.constants import Constant


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
        self._projected = Constant()

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Latents [B, N, D] from inputs [B, M, C]; mask [B, M] is added to the scores of the inputs."""
        q = self._projected.get(self.latents, "latents", lambda: self.cross.attention.project_queries(self.latents))
        keys, values = self.cross.attention.project_inputs(inputs)
        x: Tensor = self.cross(q[None], keys, values, self.latents, mask)
        for _ in range(self.num_blocks):
            for layer in self.layers:
                x = layer(x)
        return x
