"""Probable mistakes among known labels, by confident learning (Northcutt et al., 2021). By cleanlab."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.labelling.extra import require_extra
from pipeline.labelling.labelled_rows import LabelledRows
from pipeline.labelling.notes import with_notes
from pipeline.labelling.probabilities import probabilities
from pipeline.labelling.probe import Fitted
from pipeline.runtime.errors import UsageError

MAX_LABELS = 10_000  # confident learning counts units by each pair of labels


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
    mistake, whether confident learning takes the known label for wrong, never that of the only unit of a label.

    rows: with the columns `uri` and `probability_columns`. UsageError if all units have the same label, or there are
    more than 10,000.
    """
    labels = np.unique(rows.known)
    chances = probabilities(rows.table, labels.tolist(), len(rows.names))
    chances = chances if len(labels) < len(rows.names) else chances[:, :-1]
    predicted = [rows.names[number] for number in rows.predicted.tolist()]
    known = [rows.names[number] for number in rows.known.tolist()]
    ranked = _ranked(rows.table, known, np.searchsorted(labels, rows.known), chances, predicted, rows.scores)
    return with_notes(ranked, rows.notes)


def mistakes_of_probe(rows: pa.Table, fitted: Fitted) -> pa.Table:
    """Return what `mistakes_of` does, by probes that had not seen the units that they judge.

    rows: The n units that the probe was fitted to, with `id` and `uri`. Of many units only a fifth was held out.
    """
    names, codes = np.array(fitted.probe.labels, dtype=object), fitted.known[fitted.held_out]
    found = names[fitted.probabilities.argmax(axis=1)].tolist()
    scores = fitted.probabilities.max(axis=1)
    rows = rows.take(pa.array(fitted.held_out))
    return with_notes(_ranked(rows, names[codes].tolist(), codes, fitted.probabilities, found, scores), fitted.notes)


def _ranked(
    rows: pa.Table,
    known: Sequence[str],
    codes: np.ndarray,
    chances: np.ndarray,
    predicted: Sequence[str],
    scores: np.ndarray,
) -> pa.Table:
    """Return the table of `mistakes_of`. codes: columns of `chances` with the known labels."""
    ranking = rank_mistakes(codes, chances)
    order = pa.array(ranking.order)
    columns = {
        "known_label": pa.array(known, pa.string()),
        "label": pa.array(predicted, pa.string()),
        "score": pa.array(scores, pa.float32()),
        "known_score": pa.array(chances[np.arange(len(codes)), codes], pa.float32()),
        "quality": pa.array(ranking.quality.astype(np.float32)),
        "mistake": pa.array(ranking.is_mistake),
    }
    table = pa.table({"id": rows["id"], "uri": rows["uri"]} | columns).take(order)
    return table.add_column(0, "rank", pa.array(np.arange(1, len(codes) + 1)))


def rank_mistakes(known: np.ndarray, probabilities: np.ndarray) -> Ranking:
    """Rank units by how probably their known label is wrong.

    Args:
        known: int64 [n], columns of the labels that are known.
        probabilities: float32 [n, K] of K labels, by a model that did not learn from these labels.

    Raises:
        UsageError: All units have the same label, or there are more than 10,000 labels.
    """
    require_extra("probable mistakes")
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    labels = len(np.unique(known))
    if labels > MAX_LABELS:
        raise UsageError(
            f"there are {labels:,} known labels, and mistakes are ranked among at most {MAX_LABELS:,}: is it the right "
            "column?"
        )
    if labels < 2:
        raise UsageError("all known labels are the same: mistakes show only where there are two labels or more")
    # Of labels that the model is rarely certain of, lower probabilities are normal: the adjustment allows for it.
    quality = get_label_quality_scores(known, probabilities, adjust_pred_probs=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label of one unit is ranked, but never taken for a mistake
        is_mistake = np.asarray(find_label_issues(known, probabilities, n_jobs=1))
    return Ranking(order=np.lexsort((quality, ~is_mistake)), quality=quality, is_mistake=is_mistake)
