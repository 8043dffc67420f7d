"""The encoder: inputs of any length into a fixed number of latents. Paper, section 3.1."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from pipeline.perceiver.attention_kernels import Gathered, attend_part, merged
from pipeline.perceiver.attention_layers import CrossLayer, SelfLayer
from pipeline.perceiver.preprocessors import Piece, whole
from pipeline.perceiver.tensor_cache import Constant
from pipeline.perceiver.weight_folding import AbsorbedAttention


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
        self._projected: Constant[Tensor] = Constant()

    def fold(self) -> None:
        """Absorb the projections of the inputs where that pays: their weights are gone then."""
        attention = self.cross.attention
        if AbsorbedAttention.pays(attention, self.latents):
            self.absorbed = AbsorbedAttention(attention, self.latents)
            del self.cross.attention

    def forward(self, pieces: Sequence[Piece], mask: Tensor | None = None) -> Tensor:
        """Latents [B, N, D] from the pieces of inputs [B, M, C]; mask [B, M] is added to the scores of the inputs."""
        return self._through(self._gathered(pieces, mask))

    def part(self, pieces: Sequence[Piece], mask: Tensor | None = None) -> Gathered:
        """What the latents gather from some of the inputs, by head: `finish` makes latents of all of them."""
        if self.absorbed is not None:
            return self.absorbed.part(pieces, mask)
        attention = self.cross.attention
        keys, values = attention.project_inputs(whole(pieces))
        return attend_part(self._queries()[None], keys, values, attention.num_heads, mask)

    def finish(self, parts: Iterable[Gathered]) -> Tensor:
        """Latents [B, N, D] from the parts of all inputs, on this encoder's device."""
        gathered = merged(parts).to(self.latents.dtype)
        if self.absorbed is not None:
            return self._through(self.cross.mlp(self.absorbed.finish(gathered, self.latents)))
        return self._through(self.cross.mlp(self.cross.attention.finish(gathered, self.latents)))

    def _through(self, x: Tensor) -> Tensor:
        """Latents through the layers of every block."""
        for _ in range(self.num_blocks):
            for layer in self.layers:
                x = layer(x)
        return x

    def _gathered(self, pieces: Sequence[Piece], mask: Tensor | None) -> Tensor:
        """What the latents gather from the inputs, after the layer's MLP."""
        if self.absorbed is not None:
            absorbed: Tensor = self.cross.mlp(self.absorbed(pieces, self.latents, mask))
            return absorbed
        attention = self.cross.attention
        keys, values = attention.project_inputs(whole(pieces))
        gathered: Tensor = self.cross(self._queries()[None], keys, values, self.latents, mask)
        return gathered

    def _queries(self) -> Tensor:
        """The latents as queries [N, K], projected once."""
        attention = self.cross.attention
        return self._projected.get(self.latents, "latents", lambda: attention.project_queries(self.latents))
