"""Which units to label next: the least certain ones, spread over the embedding space, without near duplicates.

Zhdanov, "Diverse mini-batch Active Learning", 2019: of ten times as many of the least certain units, those next to the
centers of k-means, weighted by how uncertain they are.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.formatting import counted
from pipeline.labelling.duplicates import MAX_UNITS, group_duplicates
from pipeline.labelling.extra import require_extra
from pipeline.labelling.notes import with_notes
from pipeline.runtime.errors import UsageError

CANDIDATES = 10  # times the number of units that are asked for


def uncertainty_of(topk: pa.ChunkedArray) -> np.ndarray:
    """Return float64 [n]: one minus the margin between the scores of the best two labels.

    UsageError if rows hold one label only.
    """
    lengths = pc.list_value_length(topk)
    if len(topk) and pc.min(lengths).as_py() < 2:
        raise UsageError("a queue needs the scores of two labels of each unit: run with --top-k 2 or more")
    first, second = (
        pc.struct_field(pc.list_element(topk, place), "score").to_numpy().astype(np.float64) for place in (0, 1)
    )
    return 1 - (first - second)


def queue_of(
    rows: pa.Table, features: np.ndarray | None, count: int, known: pa.ChunkedArray | pa.Array | None = None
) -> pa.Table:
    """Return the units to label next: rank from 1, id, uri, label, score, uncertainty.

    Its notes say why there are fewer units than asked for, and that similar ones may be among them.

    Args:
        rows: n rows with `id`, `uri`, `label`, `score` and `topk`.
        features: float32 [n, F] that spread the units; None takes the least certain ones.
        count: How many.
        known: The known label of each unit, null without one; None if no label is known.
    """
    labelled = 0 if known is None else len(known) - known.null_count
    if known is not None:
        unknown = np.flatnonzero(known.is_null().to_numpy(zero_copy_only=False))
        rows, features = rows.take(pa.array(unknown)), None if features is None else features[unknown]
    uncertainty = uncertainty_of(rows["topk"])
    order = next_to_label(uncertainty, features, count)
    chosen = rows.select(["id", "uri", "label", "score"]).take(pa.array(order))
    chosen = chosen.append_column("uncertainty", pa.array(uncertainty[order].astype(np.float32)))
    chosen = chosen.add_column(0, "rank", pa.array(np.arange(1, len(order) + 1)))
    similar = "rows have no embeddings: the least certain units, similar ones among them"
    notes = [] if features is not None else [similar]
    return with_notes(chosen, [*notes, *_shortfall(len(order), count, rows.num_rows, labelled)])


def _shortfall(chosen: int, count: int, unlabelled: int, labelled: int) -> list[str]:
    """Say why fewer units were chosen than asked for."""
    if chosen == count:
        return []
    searched = min(unlabelled, MAX_UNITS)
    reasons = [f"{labelled:,} with a known label"] if labelled else []
    reasons += [counted(searched - chosen, "near duplicate")] if chosen < searched else []
    reasons += [f"{unlabelled - searched:,} of the most certain ones, not searched"] if searched < unlabelled else []
    less = f", less {' and '.join(reasons)}" if reasons else ""
    return [f"fewer than {counted(count, 'unit')}: {counted(labelled + unlabelled, 'unit')} in all{less}"]


def next_to_label(uncertainty: np.ndarray, features: np.ndarray | None, count: int) -> np.ndarray:
    """Return the numbers of at most `count` units, the least certain first.

    Args:
        uncertainty: float64 [n], as `uncertainty_of` returns it.
        features: float32 [n, F] that spread the units; None takes the least certain ones.
        count: How many.
    """
    order = np.argsort(-uncertainty, kind="stable")
    if features is None or not len(order):
        return order[:count]
    searched = CANDIDATES * count
    candidates = _unlike(features, order[: min(searched, MAX_UNITS)])
    while len(candidates) < count and searched < min(len(order), MAX_UNITS):  # most of them resemble each other
        searched *= 2
        candidates = _unlike(features, order[: min(searched, MAX_UNITS)])
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
