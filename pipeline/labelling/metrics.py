"""How good predictions are where labels are known: accuracy, classes, confusion, calibration. By scikit-learn."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from pipeline.formatting import count, counted, percent
from pipeline.labelling.extra import require_extra
from pipeline.labelling.labelled_rows import LabelledRows
from pipeline.runtime.errors import UsageError

BINS = 15  # of the reliability curve
_Z = NormalDist().inv_cdf(0.975)  # of a 95 % interval


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """One label. support, predicted: number of units that have it, and that were predicted to have it.

    precision, recall, f1: 0 if undefined, as precision is for a label that was never predicted.
    """

    label: str
    support: int
    predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Units of the label `known` that were predicted to be `predicted`."""

    known: str
    predicted: str
    units: int


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Units whose score is in [low, high): their number, mean score, and the share that was right."""

    low: float
    high: float
    units: int
    score: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """How good the predictions of a run are on its units with a known label.

    Attributes:
        units, unlabelled: number of units with a known label that the model has, and without any.
        accuracy: share of units whose best label is the known one.
        accuracy_interval: between which the accuracy of such units lies with 95 % confidence (Wilson's interval).
        balanced_accuracy: mean recall of the labels that some unit has.
        classes: labels that some unit has or was predicted to have, in the order of the model's.
        confusions: pairs of different labels, the most frequent first.
        reliability: bins of the score of the best label that have units; equal widths.
        calibration_error: expected calibration error, the mean distance of score and accuracy in the bins, weighted.
        notes: what was assumed or left out.
    """

    units: int
    unlabelled: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    classes: Sequence[ClassMetrics]
    confusions: Sequence[Confusion]
    reliability: Sequence[ReliabilityBin]
    calibration_error: float
    notes: Sequence[str] = ()

    def describe(self) -> list[str]:
        """Return sentences for people."""
        low, high = self.accuracy_interval
        lines = [
            f"accuracy {percent(self.accuracy)} of {counted(self.units, 'labelled unit')} "
            f"(95 % interval {percent(low)} to {percent(high)}), balanced {percent(self.balanced_accuracy)}",
            f"expected calibration error {percent(self.calibration_error)}",
        ]
        lines += [
            f"{each.known} was predicted as {each.predicted}: {count(each.units)}" for each in self.confusions[:3]
        ]
        return [*lines, *self.notes]


def metrics_of(rows: LabelledRows) -> Metrics:
    """Return the metrics. UsageError if scores are no probabilities, as those of a regression."""
    require_extra("metrics of labels")
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    scores = rows.scores.astype(np.float64)
    if len(rows.names) < 2 or scores.min() < 0 or scores.max() > 1:
        raise UsageError(
            "the checkpoint predicts one number, not one of several labels: metrics of labels do not apply to it"
        )
    present = np.union1d(rows.known, rows.predicted)
    precision, recall, f1, support = precision_recall_fscore_support(
        rows.known, rows.predicted, labels=present, zero_division=0.0
    )
    predicted = np.bincount(rows.predicted, minlength=len(rows.names))
    classes = [
        ClassMetrics(
            label=rows.names[number],
            support=int(support[place]),
            predicted=int(predicted[number]),
            precision=float(precision[place]),
            recall=float(recall[place]),
            f1=float(f1[place]),
        )
        for place, number in enumerate(present.tolist())
    ]
    right = rows.known == rows.predicted
    bins = reliability_bins(scores, right)
    wrong = Counter(zip(rows.known[~right].tolist(), rows.predicted[~right].tolist(), strict=True))
    return Metrics(
        units=len(rows.known),
        unlabelled=rows.unlabelled,
        accuracy=float(accuracy_score(rows.known, rows.predicted)),
        accuracy_interval=wilson_interval(int(right.sum()), len(right)),
        balanced_accuracy=float(recall[support > 0].mean()),
        classes=classes,
        confusions=[
            Confusion(known=rows.names[known], predicted=rows.names[found], units=units)
            for (known, found), units in sorted(wrong.items(), key=lambda each: (-each[1], each[0]))
        ],
        reliability=bins,
        calibration_error=calibration_error(bins),
        notes=tuple(rows.notes),
    )


def wilson_interval(right: int, units: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share: (low, high) in [0, 1]. Holds for few units and for shares near 1.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    share, z2 = right / units, _Z**2 / units
    middle, half = share + z2 / 2, _Z * math.sqrt(share * (1 - share) / units + z2 / (4 * units))
    low, high = (middle - half) / (1 + z2), (middle + half) / (1 + z2)
    return (0.0 if right == 0 else low), (1.0 if right == units else high)


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Return the expected calibration error: the mean distance of score and accuracy, weighted by the units."""
    return sum(each.units * abs(each.score - each.accuracy) for each in bins) / sum(each.units for each in bins)


def reliability_bins(scores: np.ndarray, right: np.ndarray) -> list[ReliabilityBin]:
    """Return the bins that have units, of scores float64 [n] in [0, 1]; `right` [n] says which predictions hold."""
    numbers = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    units, total, hits = (np.bincount(numbers, weights, BINS) for weights in (None, scores, right))
    return [
        ReliabilityBin(
            low=number / BINS,
            high=(number + 1) / BINS,
            units=int(units[number]),
            score=float(total[number] / units[number]),
            accuracy=float(hits[number] / units[number]),
        )
        for number in np.flatnonzero(units).tolist()
    ]
