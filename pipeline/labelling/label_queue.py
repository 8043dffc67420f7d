"""Which units to label next: the least certain ones, spread over the embedding space, without near duplicates.

Zhdanov, "Diverse mini-batch Active Learning", 2019: of ten times as many of the least certain units, those next to the
centers of k-means, weighted by how uncertain they are.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.labelling.duplicates import MAX_UNITS, group_duplicates
from pipeline.labelling.extra import require_extra
from pipeline.runtime.errors import UsageError

CANDIDATES = 10  # times the number of units that are asked for


def uncertainty_of(topk: pa.ChunkedArray) -> np.ndarray:
    """Return float64 [n]: one minus the margin between the scores of the best two labels.

    UsageError if rows hold one label only.
    """
    lengths = pc.list_value_length(topk)
    if pc.min(lengths).as_py() < 2:
        raise UsageError("a queue needs the scores of two labels of each unit: run with --top-k 2 or more")
    first, second = (
        pc.struct_field(pc.list_element(topk, place), "score").to_numpy().astype(np.float64) for place in (0, 1)
    )
    return 1 - (first - second)


def queue_of(rows: pa.Table, features: np.ndarray | None, count: int) -> pa.Table:
    """Return the units to label next: rank from 1, id, uri, label, score, uncertainty.

    rows: n rows with `id`, `uri`, `label`, `score` and `topk`. features, count: see `next_to_label`.
    """
    uncertainty = uncertainty_of(rows["topk"])
    order = next_to_label(uncertainty, features, count)
    chosen = rows.select(["id", "uri", "label", "score"]).take(pa.array(order))
    chosen = chosen.append_column("uncertainty", pa.array(uncertainty[order].astype(np.float32)))
    return chosen.add_column(0, "rank", pa.array(np.arange(1, len(order) + 1)))


def next_to_label(uncertainty: np.ndarray, features: np.ndarray | None, count: int) -> np.ndarray:
    """Return the numbers of at most `count` units, the least certain first.

    Args:
        uncertainty: float64 [n], as `uncertainty_of` returns it.
        features: float32 [n, F] that spread the units; None takes the least certain ones.
        count: How many.
    """
    order = np.argsort(-uncertainty, kind="stable")
    if features is None:
        return order[:count]
    candidates = _unlike(features, order[: min(CANDIDATES * count, MAX_UNITS)])
    if len(candidates) > count:
        candidates = candidates[_spread(features[candidates], uncertainty[candidates], count)]
    return candidates[np.argsort(-uncertainty[candidates], kind="stable")]


def _unlike(features: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return the units without those that resemble an earlier one."""
    return units[np.unique(group_duplicates(features[units]), return_index=True)[1]]


def _spread(features: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Return the numbers of `count` units: the one nearest to each center of weighted k-means."""
    require_extra("queues")
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(features)
    fitted = KMeans(count, n_init=1, random_state=0).fit(scaled, sample_weight=np.maximum(weights, 1e-6))
    distances = np.linalg.norm(scaled - fitted.cluster_centers_[fitted.labels_], axis=1)
    order = np.lexsort((distances, fitted.labels_))
    return order[np.unique(fitted.labels_[order], return_index=True)[1]]
