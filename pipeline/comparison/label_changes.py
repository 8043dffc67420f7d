"""Labels of two runs: how often they agree, which labels changed into which, and how far scores moved."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.comparison.agreement import cohens_kappa
from pipeline.comparison.differences import Respect
from pipeline.formatting import count, counted, first_of, percent
from pipeline.labelling.metrics import wilson_interval

COLUMNS = ("label", "score")
NAMED = 3  # labels and changes in a sentence


@dataclass(frozen=True, kw_only=True)
class LabelChange:
    """Units whose label is `a` in A and `b` in B."""

    a: str
    b: str
    units: int


@dataclass(frozen=True, kw_only=True)
class LabelChanges:
    """Labels of the same units in two runs, compared by name.

    Attributes:
        units, same: number of units, and of those with the same label.
        agreement: share of units with the same label.
        interval: between which the agreement on such units lies with 95 % confidence (Wilson's interval).
        kappa: Cohen's kappa; None if both runs have the same label for all units.
        changes: pairs of different labels, the most frequent first.
        score_mean, score_most: mean and greatest distance of the scores, of units with the same label.
        score_differences: float32 [same], score in B minus score in A.
        one_number: whether the checkpoints predict one number, as a regression does, and not one of several labels.
        notes: how the labels of the checkpoints differ.
    """

    units: int
    same: int
    agreement: float
    interval: tuple[float, float]
    kappa: float | None
    changes: Sequence[LabelChange]
    score_mean: float
    score_most: float
    score_differences: np.ndarray
    one_number: bool
    notes: Sequence[str] = ()

    def describe(self, pairs: int = NAMED) -> list[str]:
        """Return sentences for people. pairs: Number of pairs of labels to name, 0 for no sentence about them."""
        scores = f"distance {self.score_mean:.3g} on average, {self.score_most:.3g} at most"
        if self.one_number:
            return [f"predicted numbers of {counted(self.units, 'unit')}: {scores}"]
        low, high = self.interval
        kappa = "undefined, because both have one label only" if self.kappa is None else f"{self.kappa:.3f}"
        lines = [
            f"labels agree for {count(self.same)} of {counted(self.units, 'unit')}: {percent(self.agreement)} "
            f"(95 % interval {percent(low)} to {percent(high)}), Cohen's kappa {kappa}"
        ]
        lines += [f"{each.a} in A is {each.b} in B: {count(each.units)}" for each in self.changes[:pairs]]
        if len(self.changes) > pairs > 0:
            lines.append(f"and {counted(len(self.changes) - pairs, 'other pair')} of labels")
        if self.same:
            lines.append(f"scores of units with the same label: {scores}")
        return [*lines, *self.notes]


def compare_labels(
    a: pa.Table, b: pa.Table, names_a: Sequence[str], names_b: Sequence[str]
) -> tuple[LabelChanges, list[Respect]]:
    """Compare the labels of n units.

    Args:
        a, b: n rows with `COLUMNS`, labels with a dictionary.
        names_a, names_b: labels of the checkpoints; () if an earlier version made the run.
    """
    names, codes_a, codes_b = common_codes(a["label"], b["label"])
    scores_a, scores_b = (table["score"].to_numpy().astype(np.float32) for table in (a, b))
    is_same = codes_a == codes_b
    moved = scores_b - scores_a
    distances = np.abs(moved[is_same])
    same = int(is_same.sum())
    found = LabelChanges(
        units=len(is_same),
        same=same,
        agreement=same / len(is_same),
        interval=wilson_interval(same, len(is_same)),
        kappa=cohens_kappa(codes_a, codes_b),
        changes=list(_changes(names, codes_a[~is_same], codes_b[~is_same])),
        score_mean=float(distances.mean()) if same else 0.0,
        score_most=float(distances.max()) if same else 0.0,
        score_differences=moved[is_same],
        one_number=len(names_a) == len(names_b) == 1,
        notes=_notes(names_a, names_b),
    )
    certain = np.minimum(scores_a, scores_b)  # of changed labels, those come first of which both runs are certain
    order = np.where(is_same, np.abs(moved), 1 + certain).astype(np.float64)
    columns = {"label_a": _texts(a["label"]), "label_b": _texts(b["label"]), "score_a": scores_a, "score_b": scores_b}
    columns["score_difference"] = pa.array(moved, mask=~is_same)
    label = Respect(name="label", differs=~is_same, columns=columns, order=order)
    return found, [label, Respect(name="score", differs=is_same & (moved != 0))]


def common_codes(a: pa.ChunkedArray, b: pa.ChunkedArray) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the distinct texts of two columns with dictionaries, and both columns as numbers int64 [n] of them.

    A null is -1.
    """
    columns = [column.combine_chunks() for column in (a, b)]
    names = sorted({text for column in columns for text in column.dictionary.to_pylist() if text is not None})
    numbers = {name: number for number, name in enumerate(names)}
    codes = []
    for column in columns:
        of_dictionary = np.array([*(numbers.get(text, -1) for text in column.dictionary.to_pylist()), -1], np.int64)
        codes.append(of_dictionary[column.indices.fill_null(-1).to_numpy(zero_copy_only=False)])
    return names, codes[0], codes[1]


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string())


def _changes(names: Sequence[str], a: np.ndarray, b: np.ndarray) -> Iterator[LabelChange]:
    """Yield the pairs of labels, the most frequent first, of codes int64 [m] that differ."""
    pairs, units = np.unique(a * len(names) + b, return_counts=True)
    for place in np.argsort(-units, kind="stable").tolist():
        first, second = divmod(int(pairs[place]), len(names))
        yield LabelChange(a=names[first], b=names[second], units=int(units[place]))


def _notes(names_a: Sequence[str], names_b: Sequence[str]) -> list[str]:
    """Say how the labels of the checkpoints differ, if both are known."""
    only_a, only_b = sorted({*names_a} - {*names_b}), sorted({*names_b} - {*names_a})
    if not names_a or not names_b or not (only_a or only_b):
        return []
    common = len({*names_a} & {*names_b})
    of_one = [
        f"{counted(len(only), 'label')} only in {run} ({first_of(list(map(repr, only)), NAMED)})"
        for run, only in (("A", only_a), ("B", only_b))
        if only
    ]
    return [
        f"the checkpoints have {counted(common, 'label')} in common, {' and '.join(of_one)}; labels are compared by "
        "name"
    ]
