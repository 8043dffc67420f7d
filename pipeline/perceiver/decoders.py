"""Decoders: output queries attend to the latents. Paper, section 3.2.

A decoder is one cross-attention layer and one or more named outputs, each with its queries and its postprocessor.
Queries are decoded in chunks, so that memory does not grow with their number.

Shape letters: B units, N latents, D latent channels, P queries, E query channels.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from pipeline.perceiver.attention_layers import CrossLayer
from pipeline.perceiver.cpu_parallel import parallel_map, worker_count
from pipeline.perceiver.folded_output import FoldedOutput
from pipeline.perceiver.onednn_linear import Linear
from pipeline.perceiver.postprocessors import Postprocessor
from pipeline.perceiver.preprocessors import PositionedFeatures
from pipeline.perceiver.queries import InputQueries, Queries, with_batch

# Name of the output of models that have only one.
LOGITS = "logits"

# Size in bytes of the activations of one chunk of queries; on a CPU, of one chunk per worker thread.
CHUNK_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}
MIN_CHUNK = 256  # queries

OutputPoints = Mapping[str, Tensor | None]


class Output(nn.Module):
    """One named output: its queries, its postprocessor, and their folded form if there is one."""

    def __init__(self, queries: Queries, postprocessor: Postprocessor) -> None:
        super().__init__()
        self.queries, self.postprocessor = queries, postprocessor
        self.folded: FoldedOutput | None = None


class Decoder(nn.Module):
    """Cross-attention from output queries to latents, an optional linear map, then each output's postprocessor."""

    def __init__(self, layer: CrossLayer, final: Linear | None, outputs: Mapping[str, Output]) -> None:
        super().__init__()
        self.layer, self.final = layer, final
        self.outputs = cast("Mapping[str, Output]", nn.ModuleDict(outputs))
        self.needs_inputs = any(isinstance(output.queries, InputQueries) for output in outputs.values())

    def fold(self) -> None:
        """Form the products of weights of each output for which that saves work."""
        for output in self.outputs.values():
            arguments = self.layer, self.final, output.queries, output.postprocessor
            if FoldedOutput.pays(*arguments):
                output.folded = FoldedOutput(*arguments)

    def forward(
        self, latents: Tensor, points: OutputPoints, inputs: PositionedFeatures | None = None
    ) -> dict[str, Tensor]:
        """Return the outputs named in `points` in their final shape, see `decode_queries`."""
        return self.assemble(self.decode_queries(latents, points, inputs), points)

    def decode_queries(
        self, latents: Tensor, points: OutputPoints, inputs: PositionedFeatures | None = None
    ) -> dict[str, Tensor]:
        """Return [B, P, out] of each output named in `points`, from latents [B, N, D].

        points: flat indices [P] or [B, P] of the queries to decode, or None for all queries of an output.
        inputs: the encoder's inputs, for outputs whose queries are made of them.
        """
        return {name: self._decode_output(self.outputs[name], latents, some, inputs) for name, some in points.items()}

    def assemble(self, decoded: Mapping[str, Tensor], points: OutputPoints) -> dict[str, Tensor]:
        """Return each output in its final shape, from [B, P, out] for all requested queries."""
        return {
            name: self.outputs[name].postprocessor.assemble(x, complete=points[name] is None)
            for name, x in decoded.items()
        }

    def _decode_output(
        self, output: Output, latents: Tensor, points: Tensor | None, inputs: PositionedFeatures | None
    ) -> Tensor:
        """Decode the first chunk, then the remaining ones in parallel."""
        project = self.layer.attention.project_inputs if output.folded is None else output.folded.project_latents
        keys, values = project(latents)
        indices = torch.arange(output.queries.count, device=keys.device) if points is None else points
        total = indices.shape[-1]
        first, *remaining = self._chunks(keys, total)
        # The first chunk fills the caches and shows the width of the output. The others are written into one tensor:
        # workers that kept their results would fragment the memory that later chunks need.
        decoded = self._decode_chunk(output, keys, values, indices[..., first], inputs)
        if not remaining:
            return decoded
        out = decoded.new_empty(len(decoded), total, decoded.shape[-1])
        out[:, first] = decoded

        def decode_into_out(chunk: slice) -> None:
            out[:, chunk] = self._decode_chunk(output, keys, values, indices[..., chunk], inputs)

        parallel_map(decode_into_out, remaining, keys.device)
        return out

    def _decode_chunk(
        self, output: Output, keys: Tensor, values: Tensor, points: Tensor, inputs: PositionedFeatures | None
    ) -> Tensor:
        if output.folded is not None:
            return output.folded.decode(keys, values, points, inputs)
        attention, source = self.layer.attention, output.queries
        queries = None
        if isinstance(source, InputQueries):
            queries = source.at(points, inputs)
            q = attention.project_queries(queries)
        else:
            q = source.projected(points, keys, attention)
            if attention.query_residual:
                queries = with_batch(source.at(points, keys))
        decoded = self.layer(q, keys, values, queries)
        return output.postprocessor.project(decoded if self.final is None else self.final(decoded))

    def _chunks(self, keys: Tensor, total: int) -> list[slice]:
        """Split `total` queries into chunks of equal size: one, then as many for each worker.

        The activations of the queries of all units in a chunk take at most CHUNK_BYTES, down to MIN_CHUNK queries.
        """
        layer, device = self.layer, keys.device
        channels = sum(layer.attention.split) + 3 * layer.mlp.up.in_features + layer.mlp.up.out_features
        bytes_per_query = channels * keys.element_size() * max(1, keys.shape[0])
        most = max(MIN_CHUNK, CHUNK_BYTES[device.type] // bytes_per_query)
        remaining = max(0, -(-total // most) - 1)
        count = 1 + remaining + -remaining % worker_count(remaining, device)
        rows = max(1, -(-total // count))
        return [slice(begin, begin + rows) for begin in range(0, max(1, total), rows)]


class ProjectionDecoder(nn.Module):
    """Logits [B, labels] from the mean of latents [B, N, D]: no queries, no attention."""

    def __init__(self, *, channels: int, num_labels: int) -> None:
        super().__init__()
        self.linear = Linear(channels, num_labels)

    def forward(self, latents: Tensor) -> Tensor:
        return self.linear(latents.mean(dim=1))
