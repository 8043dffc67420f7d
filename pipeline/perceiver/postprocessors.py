"""Postprocessors: from decoded queries [B, P, E] to the outputs that a head reads.

A postprocessor has two steps: `project` works on any chunk of queries, `assemble` shapes the output of all of them.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from pipeline.perceiver.affine import Affine
from pipeline.perceiver.onednn_linear import Linear


class Postprocessor(nn.Module):
    """Decoded queries through an optional linear map: [B, P, out]."""

    def __init__(self, *, in_channels: int | None = None, out_channels: int | None = None) -> None:
        super().__init__()
        self.linear = None if in_channels is None or out_channels is None else Linear(in_channels, out_channels)

    def project(self, decoded: Tensor) -> Tensor:
        """Return [B, P, out] for any of the decoded queries, [B, P, E]."""
        return decoded if self.linear is None else self.linear(decoded)

    def affine(self, channels: int) -> Affine:
        """Return `project` of queries with `channels` channels as a matrix."""
        return Affine.identity(channels) if self.linear is None else Affine.of(self.linear)

    def assemble(self, projected: Tensor, *, complete: bool) -> Tensor:  # noqa: ARG002
        """Return the output in its final shape, from [B, P, out]; `complete` if it has all queries in order."""
        return projected


class AudioPostprocessor(Postprocessor):
    """Audio [B, P · samples_per_patch] from one patch per query."""

    def assemble(self, projected: Tensor, *, complete: bool) -> Tensor:  # noqa: ARG002
        return projected.flatten(1)


class ClassificationPostprocessor(Postprocessor):
    """Logits [B, labels] of the only query."""

    def assemble(self, projected: Tensor, *, complete: bool) -> Tensor:  # noqa: ARG002
        return projected[:, 0]


class GridPostprocessor(Postprocessor):
    """[B, *index_dims, E] divided by `divisor`; [B, P, E] if only some points are decoded."""

    def __init__(self, *, index_dims: Sequence[int], divisor: float = 1.0) -> None:
        super().__init__()
        self.index_dims, self.divisor = tuple(index_dims), divisor

    def project(self, decoded: Tensor) -> Tensor:
        return decoded / self.divisor

    def affine(self, channels: int) -> Affine:
        weight, bias = Affine.identity(channels)
        return Affine(weight / self.divisor, bias)

    def assemble(self, projected: Tensor, *, complete: bool) -> Tensor:
        return projected.unflatten(1, self.index_dims) if complete else projected


class EmbeddingPostprocessor(Postprocessor):
    """Logits [B, P, vocabulary] by the text preprocessor's embedding matrix, transposed."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.bias = nn.Parameter(embedding.weight.new_empty(embedding.num_embeddings))
        self._embedding = (embedding,)  # in a tuple, so that the preprocessor's weights are not registered twice

    def project(self, decoded: Tensor) -> Tensor:
        return nn.functional.linear(decoded, self._embedding[0].weight, self.bias)

    def affine(self, channels: int) -> Affine:  # noqa: ARG002
        return Affine(self._embedding[0].weight.double(), self.bias.double())
