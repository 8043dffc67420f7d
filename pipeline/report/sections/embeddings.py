"""Embeddings: a map of their two directions of largest variance, with some of the units on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.originals.originals import UnitRef
from pipeline.report.sample import Sample, spread
from pipeline.report.shown_text import shown_name

MAX_ROWS = 640
SHOWN = 40  # units with their image or text
WIDTH, HEIGHT = 640, 480  # of the map, in its own units
THUMBNAIL = 48
_MARGIN = 0.06


@dataclass(frozen=True, kw_only=True)
class MappedUnit:
    """A unit on the map, with its place and its number there."""

    unit: UnitRef
    name: str
    number: int
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class EmbeddingSection:
    """A map. `dots`: places of the units that are not shown. `explained`: share of the variance along both axes.

    `left_out`: number of units without a place, because their embeddings are not finite.
    """

    note: str
    left_out: int
    dimensions: int
    explained: tuple[float, float]
    shown: Sequence[MappedUnit]
    dots: Sequence[tuple[float, float]]
    width: int = WIDTH
    height: int = HEIGHT
    thumbnail: int = THUMBNAIL

    @property
    def units(self) -> list[UnitRef]:
        """Units whose originals the section shows."""
        return [each.unit for each in self.shown]


def embedding_section(sample: Sample) -> EmbeddingSection | None:
    """Return the map of a sample, None if it has no rows with finite embeddings."""
    refs, vectors = [], []
    for shard, batch in sample.batches(["id", "uri", "embedding"], MAX_ROWS):
        names = zip(batch.column("id").to_pylist(), batch.column("uri").to_pylist(), strict=True)
        refs += [UnitRef(unit_id, uri, shard) for unit_id, uri in names]
        vectors += [cell.values.to_numpy(zero_copy_only=False) for cell in batch.column("embedding")]
    finite = [at for at, vector in enumerate(vectors) if np.isfinite(vector).all()]
    left_out = len(refs) - len(finite)
    refs, vectors = [refs[at] for at in finite], [vectors[at] for at in finite]
    if not refs:
        return None
    places, explained = principal_components(np.stack(vectors).astype(np.float64))
    x, y = _scaled(places[:, 0], WIDTH), _scaled(-places[:, 1], HEIGHT)
    chosen = spread(range(len(refs)), SHOWN)
    return EmbeddingSection(
        note=sample.note,
        left_out=left_out,
        dimensions=vectors[0].shape[0],
        explained=explained,
        shown=[
            MappedUnit(unit=refs[at], name=shown_name(refs[at].id), number=number, x=float(x[at]), y=float(y[at]))
            for number, at in enumerate(chosen, 1)
        ],
        dots=[(float(x[at]), float(y[at])) for at in range(len(refs)) if at not in set(chosen)],
    )


def principal_components(vectors: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Return the first two principal components [n, 2] of vectors [n, D], and the share of variance of each."""
    centred = vectors - vectors.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(vectors), 2))
    count = min(2, singular.shape[0])
    places[:, :count] = left[:, :count] * singular[:count]
    total = float((singular**2).sum()) or 1.0
    shares = [*(singular[:2] ** 2 / total).tolist(), 0.0, 0.0]
    return places, (shares[0], shares[1])


def _scaled(values: np.ndarray, length: int) -> np.ndarray:
    """Return values moved into [0, length], with a margin for thumbnails at the edges."""
    margin = _MARGIN * WIDTH
    span = float(values.max() - values.min())
    share = (values - values.min()) / span if span > 0 else np.full_like(values, 0.5)
    return margin + share * (length - 2 * margin)
