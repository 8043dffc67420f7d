"""Postprocessors: decoded queries [B, P, E] into what a head reads.

Each has two halves: `project` works on any chunk of queries, `form` gives the whole its final shape.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from pipeline.perceiver.onednn_linear import Linear
from pipeline.perceiver.weight_folding import Affine


class Postprocessor(Protocol):
    """What becomes of decoded queries."""

    def project(self, decoded: Tensor) -> Tensor:
        """[B, P, E] to [B, P, out], for any part of the queries."""
        ...

    def affine(self, channels: int) -> Affine:
        """`project` of queries of so many channels, as a matrix."""
        ...

    def form(self, projected: Tensor, *, whole: bool) -> Tensor:
        """[B, P, out] in its final shape; `whole` where all queries were asked, in order."""
        ...


class Rows(nn.Module):
    """Decoded queries as they are: [B, P, E]."""

    def project(self, decoded: Tensor) -> Tensor:
        return decoded

    def affine(self, channels: int) -> Affine:
        return Affine.identity(channels)

    def form(self, projected: Tensor, *, whole: bool) -> Tensor:  # noqa: ARG002
        return projected


class Projection(nn.Module):
    """A linear map of each query: [B, P, out_channels]."""

    def __init__(self, *, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = Linear(in_channels, out_channels)

    def project(self, decoded: Tensor) -> Tensor:
        return self.linear(decoded)

    def affine(self, channels: int) -> Affine:  # noqa: ARG002
        return Affine.of(self.linear)

    def form(self, projected: Tensor, *, whole: bool) -> Tensor:  # noqa: ARG002
        return projected


class Audio(nn.Module):
    """Samples in the order of their patches: [B, P · samples_per_patch]."""

    def __init__(self, *, in_channels: int, samples_per_patch: int) -> None:
        super().__init__()
        self.linear = Linear(in_channels, samples_per_patch)

    def project(self, decoded: Tensor) -> Tensor:
        return self.linear(decoded)

    def affine(self, channels: int) -> Affine:  # noqa: ARG002
        return Affine.of(self.linear)

    def form(self, projected: Tensor, *, whole: bool) -> Tensor:  # noqa: ARG002
        return projected.flatten(1)


class Classification(nn.Module):
    """Logits [B, labels] of the only query, by a linear map unless the decoder already made them."""

    def __init__(self, *, in_channels: int | None = None, num_labels: int | None = None) -> None:
        super().__init__()
        self.linear = None if in_channels is None or num_labels is None else Linear(in_channels, num_labels)

    def project(self, decoded: Tensor) -> Tensor:
        return decoded if self.linear is None else self.linear(decoded)

    def affine(self, channels: int) -> Affine:
        return Affine.identity(channels) if self.linear is None else Affine.of(self.linear)

    def form(self, projected: Tensor, *, whole: bool) -> Tensor:  # noqa: ARG002
        return projected[:, 0]


class Grid(nn.Module):
    """[B, *index_dims, E], divided by `divisor`; [B, P, E] where only some places were asked for."""

    def __init__(self, *, index_dims: Sequence[int], divisor: float = 1.0) -> None:
        super().__init__()
        self.index_dims = tuple(index_dims)
        self.divisor = divisor

    def project(self, decoded: Tensor) -> Tensor:
        return decoded / self.divisor

    def affine(self, channels: int) -> Affine:
        weight, bias = Affine.identity(channels)
        return Affine(weight / self.divisor, bias)

    def form(self, projected: Tensor, *, whole: bool) -> Tensor:
        return projected.unflatten(1, self.index_dims) if whole else projected


class EmbeddingDecoder(nn.Module):
    """Logits [B, P, vocab] by the transposed matrix of the text preprocessor's embedding."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.bias = nn.Parameter(embedding.weight.new_empty(embedding.num_embeddings))
        self._embedding = (embedding,)  # in a tuple: the weights are the preprocessor's, and must not be listed twice

    def project(self, decoded: Tensor) -> Tensor:
        return nn.functional.linear(decoded, self._embedding[0].weight, self.bias)

    def affine(self, channels: int) -> Affine:  # noqa: ARG002
        return Affine(self._embedding[0].weight.double(), self.bias.double())

    def form(self, projected: Tensor, *, whole: bool) -> Tensor:  # noqa: ARG002
        return projected
