"""Near duplicates: units whose embeddings point in nearly the same direction."""

import numpy as np
import pyarrow as pa

from pipeline.runtime.errors import UsageError

SIMILARITY = 0.995  # cosine of centered embeddings from which two units count as the same
MAX_UNITS = 200_000  # the time grows with their square
BLOCK, COLUMNS = 256, 16_384  # units that are compared at a time, which bounds the memory
_ROUNDING = 1e-6  # of squared distances in float32


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
    if len(features) > MAX_UNITS:
        raise UsageError(
            f"near duplicates are searched among at most {MAX_UNITS:,} units, not {len(features):,}: select some "
            "with --where"
        )
    vectors = unit_vectors(features)
    groups, number = np.full(len(features), -1, np.int64), 0
    while (block := np.flatnonzero(groups < 0)[:BLOCK]).size:
        begin = block[0]  # units before it are in groups
        near = _near(vectors[block], vectors[begin:], similarity)
        for place, unit in enumerate(block):
            if groups[unit] < 0:
                others = begin + np.flatnonzero(near[place] & (groups[begin:] < 0))
                groups[others] = groups[unit] = number
                number += 1
    return groups


def _near(some: np.ndarray, others: np.ndarray, similarity: float) -> np.ndarray:
    """Return whether unit vectors [b, F] and [n, F] resemble each other, bool [b, n]; zero vectors only zero ones."""
    near = np.empty((len(some), len(others)), bool)
    lengths = np.einsum("bf,bf->b", some, some)[:, None]
    for begin in range(0, len(others), COLUMNS):
        part = others[begin : begin + COLUMNS]
        distances = lengths + np.einsum("nf,nf->n", part, part) - 2 * some @ part.T  # squared
        near[:, begin : begin + COLUMNS] = distances <= 2 * (1 - similarity) + _ROUNDING
    return near


def unit_vectors(features: np.ndarray) -> np.ndarray:
    """Return centered features of length 1, float32 [n, F]; those that equal the mean stay zero."""
    centered = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    lengths = np.linalg.norm(centered, axis=1, keepdims=True)
    return np.divide(centered, lengths, out=np.zeros_like(centered), where=lengths > 0)


def duplicates_of(rows: pa.Table, features: np.ndarray, similarity: float = SIMILARITY) -> pa.Table:
    """Return the rows of units that resemble another one, group by group.

    Columns: group from 1; those of the rows; similarity, the cosine to the first unit of the group after centering.
    """
    groups = group_duplicates(features, similarity)
    sizes = np.bincount(groups)
    order = np.lexsort((np.arange(len(groups)), groups))
    order = order[sizes[groups[order]] > 1]
    vectors = unit_vectors(features)
    _, first = np.unique(groups, return_index=True)
    cosine = np.einsum("nf,nf->n", vectors[order], vectors[first[groups[order]]]).clip(-1, 1)
    _, numbers = np.unique(groups[order], return_inverse=True)
    chosen = rows.take(pa.array(order))
    chosen = chosen.add_column(0, "group", pa.array(numbers.reshape(-1) + 1, pa.int64()))
    return chosen.append_column("similarity", pa.array(cosine.astype(np.float32)))
