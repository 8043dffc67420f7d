"""Near duplicates: units whose embeddings point in nearly the same direction. By scikit-learn."""

import numpy as np
import pyarrow as pa

from pipeline.labelling.extra import require_extra
from pipeline.runtime.errors import UsageError

SIMILARITY = 0.995  # cosine of centered embeddings from which two units count as the same
MAX_UNITS = 200_000  # the time grows with their square


def group_duplicates(features: np.ndarray, similarity: float = SIMILARITY) -> np.ndarray:
    """Return the number of the group of each unit, int64 [n]: units that resemble the first one of a group are in it.

    Groups are numbered in the order of their first units. Embeddings are centered first, because those of a model have
    most of their direction in common.

    Args:
        features: float32 [n, F].
        similarity: Cosine from which two units resemble each other.

    Raises:
        UsageError: There are more than 200,000 units.
    """
    require_extra("near duplicates")
    from sklearn.neighbors import radius_neighbors_graph

    if len(features) > MAX_UNITS:
        raise UsageError(
            f"near duplicates are searched among at most {MAX_UNITS:,} units, not {len(features):,}: select some "
            "with --where"
        )
    near = radius_neighbors_graph(unit_vectors(features), np.sqrt(2 * (1 - similarity)), include_self=True)
    groups, number = np.full(len(features), -1, np.int64), 0
    for unit in range(len(features)):
        if groups[unit] < 0:
            others = near.indices[near.indptr[unit] : near.indptr[unit + 1]]
            groups[others[groups[others] < 0]] = number
            number += 1
    return groups


def unit_vectors(features: np.ndarray) -> np.ndarray:
    """Return centered features of length 1, float32 [n, F]; those that equal the mean stay zero."""
    centered = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    lengths = np.linalg.norm(centered, axis=1, keepdims=True)
    return np.divide(centered, lengths, out=np.zeros_like(centered), where=lengths > 0)


def duplicates_of(rows: pa.Table, features: np.ndarray, similarity: float = SIMILARITY) -> pa.Table:
    """Return the units that resemble another one: group from 1, id, uri, and similarity to the first of the group.

    rows: n rows with `id` and `uri`.
    """
    groups = group_duplicates(features, similarity)
    sizes = np.bincount(groups)
    order = np.lexsort((np.arange(len(groups)), groups))
    order = order[sizes[groups[order]] > 1]
    vectors = unit_vectors(features)
    _, first = np.unique(groups, return_index=True)
    cosine = np.einsum("nf,nf->n", vectors[order], vectors[first[groups[order]]]).clip(-1, 1)
    _, numbers = np.unique(groups[order], return_inverse=True)
    chosen = rows.select(["id", "uri"]).take(pa.array(order))
    chosen = chosen.add_column(0, "group", pa.array(numbers.reshape(-1) + 1, pa.int64()))
    return chosen.append_column("similarity", pa.array(cosine.astype(np.float32)))
