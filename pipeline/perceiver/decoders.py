"""Decoders: output queries against the latents. Paper, section 3.2.

A decoder is one cross-attention layer and one or more named outputs. Each output knows how its queries are made and
what becomes of what they fetch. Queries are decoded in chunks, so that memory does not grow with their number.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.perceiver.attention_layers import CrossLayer
from pipeline.perceiver.cpu_parallel import lanes, side_by_side
from pipeline.perceiver.folded_decoder import Answer
from pipeline.perceiver.onednn_linear import Linear
from pipeline.perceiver.postprocessors import Postprocessor
from pipeline.perceiver.preprocessors import Placed
from pipeline.perceiver.queries import InputQueries, PositionQueries, batched

# Name of the output of models that have only one.
LOGITS = "logits"

# Activations of the queries that are decoded at a time, on a CPU of those of a lane, in bytes.
CHUNK_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}


class Output(nn.Module):
    """One thing that is decoded: how it is asked for and what is made of the answer."""

    def __init__(self, queries: PositionQueries | InputQueries, postprocessor: Postprocessor) -> None:
        super().__init__()
        self.queries = queries
        self.postprocessor = postprocessor
        self.answer: Answer | None = None


class Decoder(nn.Module):
    """Cross-attention from output queries to latents, an optional linear map, then each output's postprocessor."""

    def __init__(self, layer: CrossLayer, final: Linear | None, outputs: Mapping[str, Output]) -> None:
        super().__init__()
        self.layer = layer
        self.final = final
        self.outputs = nn.ModuleDict(outputs)
        self.needs_inputs = any(isinstance(output.queries, InputQueries) for output in outputs.values())

    def fold(self) -> None:
        """Form what products of weights can be formed once."""
        for output in self._outputs().values():
            arguments = self.layer, self.final, output.queries, output.postprocessor
            if Answer.pays(*arguments):
                output.answer = Answer(*arguments)

    def counts(self) -> dict[str, int]:
        """How many queries each output has."""
        return {name: output.queries.count for name, output in self._outputs().items()}

    def forward(
        self, latents: Tensor, points: Mapping[str, Tensor | None], placed: Placed | None = None
    ) -> dict[str, Tensor]:
        """The outputs named in `points`, from latents [B, N, D]; None asks for all of an output's queries."""
        return self.form(self.project(latents, points, placed), points)

    def project(
        self, latents: Tensor, points: Mapping[str, Tensor | None], placed: Placed | None = None
    ) -> dict[str, Tensor]:
        """The same query by query: [B, P, out] of each output, for any part of its queries."""
        outputs = self._outputs()
        return {name: self._decode(outputs[name], latents, asked, placed) for name, asked in points.items()}

    def form(self, projected: Mapping[str, Tensor], points: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        """Each output in its final shape, from all of the queries that were asked for."""
        outputs = self._outputs()
        return {name: outputs[name].postprocessor.form(x, whole=points[name] is None) for name, x in projected.items()}

    def _outputs(self) -> dict[str, Output]:
        return {name: output for name, output in self.outputs.items() if isinstance(output, Output)}

    def _decode(self, output: Output, latents: Tensor, points: Tensor | None, placed: Placed | None) -> Tensor:
        answer = output.answer
        keys, values = answer(latents) if answer is not None else self.layer.attention.project_inputs(latents)
        every = torch.arange(output.queries.count, device=keys.device) if points is None else points
        total = every.shape[-1]
        begin, *others = self._chunks(keys, total)

        def decode(some: slice) -> Tensor:
            return self._decode_chunk(output, keys, values, every[..., some], placed)

        def put(some: slice) -> None:
            decoded[:, some] = decode(some)

        # By itself: it makes what is kept for all, and shows how wide the output is. Lanes that kept what they decode
        # would leave holes too small for what they need next.
        first = decode(begin)
        if not others:
            return first
        decoded = first.new_empty(len(first), total, first.shape[-1])
        decoded[:, begin] = first
        side_by_side(put, others, keys.device)
        return decoded

    def _decode_chunk(
        self, output: Output, keys: Tensor, values: Tensor, points: Tensor, placed: Placed | None
    ) -> Tensor:
        if output.answer is not None:
            return output.answer.chunk(keys, values, points, placed)
        attention, source = self.layer.attention, output.queries
        if isinstance(source, InputQueries):
            asked = source.at(points, placed)
            q, queries = attention.project_queries(asked), asked if attention.query_residual else None
        else:
            q = batched(source.projected(points, keys, self.layer))
            queries = batched(source.at(points, keys)) if attention.query_residual else None
        decoded = self.layer(q, keys, values, queries)
        return output.postprocessor.project(decoded if self.final is None else self.final(decoded))

    def _chunks(self, keys: Tensor, total: int) -> list[slice]:
        """Which of so many queries are decoded at a time, by the bytes of what is alive for one query of every unit: as
        many each time, and behind the first as often in each lane."""
        layer, device = self.layer, keys.device
        channels = sum(layer.attention.split) + 3 * layer.mlp.up.in_features + layer.mlp.up.out_features
        most = max(256, CHUNK_BYTES[device.type] // (channels * keys.element_size() * max(1, keys.shape[0])))
        others = max(0, -(-total // most) - 1)
        count = 1 + others + -others % lanes(others, device)
        rows = max(1, -(-total // count))
        return [slice(begin, begin + rows) for begin in range(0, max(1, total), rows)]


class ProjectionDecoder(nn.Module):
    """Logits [B, labels] from the mean of the latents: no queries, no attention."""

    def __init__(self, *, channels: int, num_labels: int) -> None:
        super().__init__()
        self.linear = Linear(channels, num_labels)
        self.needs_inputs = False

    def counts(self) -> dict[str, int]:
        """Return {"logits": 1}: one output per unit."""
        return {LOGITS: 1}

    def forward(
        self, latents: Tensor, points: Mapping[str, Tensor | None], placed: Placed | None = None
    ) -> dict[str, Tensor]:
        """{"logits": [B, labels]} from latents [B, N, D]."""
        return self.form(self.project(latents, points, placed), points)

    def project(
        self,
        latents: Tensor,
        points: Mapping[str, Tensor | None],  # noqa: ARG002
        placed: Placed | None = None,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """The same: there is one answer, and no part of it."""
        return {LOGITS: self.linear(latents.mean(dim=1))}

    def form(self, projected: Mapping[str, Tensor], points: Mapping[str, Tensor | None]) -> dict[str, Tensor]:  # noqa: ARG002
        """As it is."""
        return dict(projected)
