"""Decoders: output queries against the latents. Paper, section 3.2.

A decoder is one cross-attention layer and one or more named outputs. Each output knows how its queries are made and
what becomes of what they fetch. Queries are decoded in chunks, so that memory does not grow with their number.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from pipeline.perceiver.attention import CrossLayer
from pipeline.perceiver.constants import Constant
from pipeline.perceiver.positions import FourierPositions, ProjectedPositions, TrainedPositions
from pipeline.perceiver.postprocessors import Postprocessor

# Activations of the queries that are decoded at a time, in bytes.
CHUNK_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}
# Queries made of positions alone are projected once and kept, where all of them fit in this.
CACHE_BYTES = 64 << 20

# The preprocessed inputs at flat indices: [P] or [B, P] to [B, P, C].
InputsAt = Callable[[Tensor], Tensor]


class PositionQueries(nn.Module):
    """Output queries made of positions and trained padding alone: the same for every unit."""

    def __init__(
        self,
        positions: FourierPositions | TrainedPositions | ProjectedPositions,
        *,
        index_dims: Sequence[int],
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.index_dims = tuple(index_dims)
        self.count = math.prod(self.index_dims)
        self.channels = positions.channels + padding
        self.positions = positions
        self.padding = nn.Parameter(torch.empty(1, padding)) if padding else None
        self._projected = Constant(CACHE_BYTES)

    def at(self, points: Tensor, like: Tensor) -> Tensor:
        """Queries [..., E] at flat indices [...]."""
        queries = self.positions.at(points, self.index_dims, like)
        if self.padding is None:
            return queries
        return torch.cat([queries, self.padding.expand(*queries.shape[:-1], -1)], dim=-1)

    def projected(self, points: Tensor, like: Tensor, layer: CrossLayer) -> Tensor:
        """`layer`'s projection [..., K] of the queries at `points`: looked up where all of them are few."""
        width = layer.attention.split[0]
        if self.count * width * like.element_size() > CACHE_BYTES:
            return layer.attention.project_queries(self.at(points, like))

        def project_all() -> Tensor:
            every = torch.arange(self.count, device=like.device)
            return layer.attention.project_queries(self.at(every, like))

        return self._projected.get(like, "projected", project_all)[points]


class InputQueries(nn.Module):
    """Output queries that are the preprocessed inputs themselves (optical flow)."""

    def __init__(self, *, count: int, channels: int) -> None:
        super().__init__()
        self.count = count
        self.channels = channels


class Output(nn.Module):
    """One thing that is decoded: how it is asked for and what is made of the answer."""

    def __init__(self, queries: PositionQueries | InputQueries, postprocessor: Postprocessor) -> None:
        super().__init__()
        self.queries = queries
        self.postprocessor = postprocessor


class Decoder(nn.Module):
    """Cross-attention from output queries to latents, an optional linear map, then each output's postprocessor."""

    def __init__(self, layer: CrossLayer, final: nn.Linear | None, outputs: Mapping[str, Output]) -> None:
        super().__init__()
        self.layer = layer
        self.final = final
        self.outputs = nn.ModuleDict(outputs)
        self.needs_inputs = any(isinstance(output.queries, InputQueries) for output in outputs.values())

    def counts(self) -> dict[str, int]:
        """How many queries each output has."""
        return {name: output.queries.count for name, output in self._outputs().items()}

    def forward(
        self, latents: Tensor, points: Mapping[str, Tensor | None], inputs_at: InputsAt | None = None
    ) -> dict[str, Tensor]:
        """The outputs named in `points`, from latents [B, N, D]; None asks for all of an output's queries."""
        keys_values = self.layer.attention.project_inputs(latents)
        outputs = self._outputs()
        return {name: self._decode(outputs[name], keys_values, asked, inputs_at) for name, asked in points.items()}

    def _outputs(self) -> dict[str, Output]:
        return {name: output for name, output in self.outputs.items() if isinstance(output, Output)}

    def _decode(
        self, output: Output, keys_values: tuple[Tensor, Tensor], points: Tensor | None, inputs_at: InputsAt | None
    ) -> Tensor:
        keys, values = keys_values
        every = torch.arange(output.queries.count, device=keys.device) if points is None else points
        total, decoded = every.shape[-1], None
        rows = self._chunk(keys)
        for start in range(0, max(total, 1), rows):
            chunk = self._decode_chunk(output, keys, values, every[..., start : start + rows], inputs_at)
            if total <= rows:
                decoded = chunk
                break
            if decoded is None:
                decoded = chunk.new_empty(chunk.shape[0], total, chunk.shape[-1])
            decoded[:, start : start + rows] = chunk
        assert decoded is not None
        return output.postprocessor.form(decoded, whole=points is None)

    def _decode_chunk(
        self, output: Output, keys: Tensor, values: Tensor, points: Tensor, inputs_at: InputsAt | None
    ) -> Tensor:
        attention, source = self.layer.attention, output.queries
        if isinstance(source, InputQueries):
            if inputs_at is None:
                raise ValueError("this model's output queries are made of its inputs: decode(latents, inputs=…)")
            asked = inputs_at(points)
            q, queries = attention.project_queries(asked), asked if attention.query_residual else None
        else:
            q = _batched(source.projected(points, keys, self.layer))
            queries = _batched(source.at(points, keys)) if attention.query_residual else None
        decoded = self.layer(q, keys, values, queries)
        return output.postprocessor.project(decoded if self.final is None else self.final(decoded))

    def _chunk(self, keys: Tensor) -> int:
        """Queries a chunk, by the bytes of what is alive for one query of every unit."""
        layer = self.layer
        channels = sum(layer.attention.split) + 3 * layer.mlp.up.in_features + layer.mlp.up.out_features
        return max(256, CHUNK_BYTES[keys.device.type] // (channels * keys.element_size() * max(1, keys.shape[0])))


class ProjectionDecoder(nn.Module):
    """Logits [B, labels] from the mean of the latents: no queries, no attention."""

    def __init__(self, *, channels: int, num_labels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, num_labels)
        self.needs_inputs = False

    def counts(self) -> dict[str, int]:
        """One answer a unit."""
        return {"logits": 1}

    def forward(
        self,
        latents: Tensor,
        points: Mapping[str, Tensor | None],  # noqa: ARG002
        inputs_at: InputsAt | None = None,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """{"logits": [B, labels]} from latents [B, N, D]."""
        return {"logits": self.linear(latents.mean(dim=1))}


def _batched(x: Tensor) -> Tensor:
    """[P, c] as [1, P, c]: the same for every unit."""
    return x[None] if x.ndim == 2 else x
