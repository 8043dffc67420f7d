"""Probable mistakes among known labels, by confident learning (Northcutt et al., 2021). By cleanlab."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.labelling.extra import require_extra
from pipeline.labelling.labelled_rows import LabelledRows
from pipeline.labelling.probabilities import probabilities
from pipeline.runtime.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Units with a known label, the most probably wrong one first.

    Attributes:
        order: int64 [n], numbers of the units.
        quality: float64 [n] of each unit in [0, 1]; low where the model contradicts the label with certainty.
        is_mistake: bool [n], whether each unit is among those whose labels confident learning takes for wrong.
    """

    order: np.ndarray
    quality: np.ndarray
    is_mistake: np.ndarray


def mistakes_of(rows: LabelledRows) -> pa.Table:
    """Return the units with a known label, the most probably wrong one first.

    Columns: rank from 1; id, uri, known_label, label (the model's) and score (of the model's); known_score, the
    probability of the known label; quality in [0, 1], low where the model contradicts the known label with certainty;
    mistake, whether confident learning takes the known label for wrong.

    rows: with the columns `uri` and `probability_columns`. UsageError if all units have the same label.
    """
    labels = np.unique(rows.known)
    columns = np.searchsorted(labels, rows.known)
    chances = probabilities(rows.table, labels.tolist(), len(rows.names))
    ranking = rank_mistakes(columns, chances if len(labels) < len(rows.names) else chances[:, :-1])
    order = pa.array(ranking.order)
    ranked = rows.table.select(["id", "uri"]).take(order)
    values = {
        "known_label": [rows.names[number] for number in rows.known[ranking.order].tolist()],
        "label": rows.table["label"].take(order),
        "score": rows.table["score"].take(order),
        "known_score": chances[np.arange(len(columns)), columns][ranking.order],
        "quality": ranking.quality[ranking.order].astype(np.float32),
        "mistake": ranking.is_mistake[ranking.order],
    }
    for name, value in values.items():
        ranked = ranked.append_column(name, value if isinstance(value, pa.ChunkedArray) else pa.array(value))
    return ranked.add_column(0, "rank", pa.array(np.arange(1, len(columns) + 1)))


def rank_mistakes(known: np.ndarray, probabilities: np.ndarray) -> Ranking:
    """Rank units by how probably their known label is wrong.

    Args:
        known: int64 [n], columns of the labels that are known.
        probabilities: float32 [n, K] of K labels, by a model that did not learn from these labels.

    Raises:
        UsageError: All units have the same label.
    """
    require_extra("probable mistakes")
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    if len(np.unique(known)) < 2:
        raise UsageError("all known labels are the same: mistakes show only where there are two labels or more")
    # Of labels that the model is rarely certain of, lower probabilities are normal: the adjustment allows for it.
    quality = get_label_quality_scores(known, probabilities, adjust_pred_probs=True)
    is_mistake = np.asarray(find_label_issues(known, probabilities, n_jobs=1))
    return Ranking(order=np.lexsort((quality, ~is_mistake)), quality=quality, is_mistake=is_mistake)
