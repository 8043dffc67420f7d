"""Accuracy of two runs on the same units with known labels, and whether its difference may be chance."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.comparison.agreement import mcnemar_exact
from pipeline.formatting import count, counted, percent
from pipeline.labelling.labelled_rows import named_labels, written_labels
from pipeline.labelling.metrics import wilson_interval
from pipeline.runtime.stages.known_labels import KNOWN_LABEL
from pipeline.sources.label_files import LabelFile


@dataclass(frozen=True, kw_only=True)
class KnownLabelComparison:
    """How good two runs are on the same units, whose label is known.

    Attributes:
        units: number of units with a known label that both checkpoints have.
        both_right, only_a_right, only_b_right, both_wrong: of these, by which runs predict the known label.
        p_value: of McNemar's exact test, two-sided: how probable such a difference is if both are equally good.
    """

    units: int
    both_right: int
    only_a_right: int
    only_b_right: int
    both_wrong: int
    p_value: float

    @property
    def accuracy_a(self) -> float:
        """Share of the units of which A predicts the known label."""
        return (self.both_right + self.only_a_right) / self.units

    @property
    def accuracy_b(self) -> float:
        """Share of the units of which B predicts the known label."""
        return (self.both_right + self.only_b_right) / self.units

    def describe(self) -> list[str]:
        """Return sentences for people."""
        shown = []
        for right in (self.both_right + self.only_a_right, self.both_right + self.only_b_right):
            low, high = wilson_interval(right, self.units)
            shown.append(f"{percent(right / self.units)} (95 % interval {percent(low)} to {percent(high)})")
        return [
            f"accuracy of A {shown[0]}, of B {shown[1]}, on {counted(self.units, 'unit')} with a known label",
            f"only A is right about {count(self.only_a_right)}, only B about {count(self.only_b_right)}: "
            f"McNemar's exact test gives p = {self.p_value:.2g}",
        ]


def known_columns(a: pa.Table, b: pa.Table) -> list[pa.ChunkedArray]:
    """Return the columns of known labels that the rows of both runs have, as texts."""
    return [table[KNOWN_LABEL].cast(pa.string()) for table in (a, b) if KNOWN_LABEL in table.column_names]


def known_texts(ids: pa.ChunkedArray, columns: Sequence[pa.ChunkedArray], labels: LabelFile | None) -> pa.ChunkedArray:
    """Return the known label of each unit, null if none is known, or if A and B have different ones.

    labels: A file, which counts instead of the columns.
    """
    if labels is not None:
        return pa.chunked_array([labels.of(ids.cast(pa.string()).combine_chunks())])
    merged = pc.coalesce(*columns)
    if len(columns) == 1:
        return merged
    differs = pc.fill_null(pc.not_equal(*columns), False)
    return pc.if_else(differs, pa.scalar(None, pa.string()), merged)


def compare_known_labels(
    a: pa.Table, b: pa.Table, known: pa.ChunkedArray, names: tuple[Sequence[str], Sequence[str]]
) -> tuple[KnownLabelComparison | None, list[str]]:
    """Compare the labels of n units with the known ones; return None if no label is known that both checkpoints have.

    The second value are sentences about units that do not count.

    Args:
        a, b: n rows with `label`.
        known: n texts or nulls.
        names: labels of the checkpoints; () takes those of the rows.
    """
    found = Counter(known.drop_null().to_pylist())
    if not found:
        return None, ["no label is known of the units in both runs"]
    notes, right, is_there = list[str](), [], []
    for run, table, of_checkpoint in zip("AB", (a, b), names, strict=True):
        of_run = list(of_checkpoint) or sorted(set(table["label"].unique().to_pylist()))
        written, assumed = written_labels(found, of_run)
        meant = dict(zip(written, of_run, strict=True))
        notes += [*(f"{run}: {note}" for note in assumed), *_foreign(run, found, meant)]
        wanted = _translated(known, meant)
        right.append(_true(pc.equal(table["label"].cast(pa.string()).combine_chunks(), wanted)))
        is_there.append(wanted.is_valid().to_numpy(zero_copy_only=False))
    both = is_there[0] & is_there[1]
    if not both.any():
        return None, [*notes, "no known label is one that both checkpoints have: accuracies are not compared"]
    right_a, right_b = right[0][both], right[1][both]
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    compared = KnownLabelComparison(
        units=int(both.sum()),
        both_right=int((right_a & right_b).sum()),
        only_a_right=only_a,
        only_b_right=only_b,
        both_wrong=int((~right_a & ~right_b).sum()),
        p_value=mcnemar_exact(only_a, only_b),
    )
    return compared, notes


def _translated(known: pa.ChunkedArray, meant: Mapping[str, str]) -> pa.Array:
    """Return the label of the checkpoint that each known label means, null for none."""
    texts = known.dictionary_encode().combine_chunks()
    return pa.array([meant.get(text) for text in texts.dictionary.to_pylist()], pa.string()).take(texts.indices)


def _foreign(run: str, found: Counter[str], meant: Mapping[str, str]) -> Iterator[str]:
    """Say which known labels the checkpoint of a run does not have."""
    foreign = Counter({label: units for label, units in found.items() if label not in meant})
    if foreign:
        yield (
            f"left out: {counted(foreign.total(), 'unit')} with known labels that the checkpoint of {run} does not "
            f"have: {named_labels(foreign, list(meant.values()))}"
        )


def _true(values: pa.Array) -> np.ndarray:
    """Return bool [n], false for null."""
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False))
