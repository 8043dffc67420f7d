"""Known labels: how good the predictions are where labels are known, and which of the labels are probably wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.labelling.labelled_rows import COLUMNS, read_labelled_rows
from pipeline.labelling.metrics import ClassMetrics, Metrics, ReliabilityBin, metrics_of
from pipeline.labelling.mistakes import mistakes_of
from pipeline.labelling.probabilities import probability_columns
from pipeline.originals.originals import UnitRef
from pipeline.report.plots import Plot, reliability
from pipeline.report.sample import Sample
from pipeline.report.shown_text import shown_name
from pipeline.runtime.errors import UsageError
from pipeline.runtime.stages.known_labels import KNOWN_LABEL
from pipeline.sources.label_files import LabelFile

MAX_ROWS = 100_000
SHOWN_CLASSES = 20
SHOWN_CONFUSIONS = 10
SHOWN_MISTAKES = 12
LABEL_LETTERS = 60


@dataclass(frozen=True, kw_only=True)
class ProbableMistake:
    """A unit whose known label is probably wrong, and what the model predicts."""

    unit: UnitRef
    name: str
    known: str
    label: str
    score: float


@dataclass(frozen=True, kw_only=True)
class KnownLabelSection:
    """Metrics of a sample. `reason`: why there are none; then all but `note` is empty.

    `classes`: those with the lowest F1 first. `others`: number of classes that are not shown. `mistakes`: the first of
    `probable`, the number of labels that are taken for wrong.
    """

    note: str
    reason: str = ""
    metrics: Metrics | None = None
    classes: Sequence[ClassMetrics] = ()
    others: int = 0
    confusions: Sequence[tuple[str, str, int]] = ()
    plot: Plot | None = None
    probable: int = 0
    mistakes: Sequence[ProbableMistake] = ()

    @property
    def units(self) -> list[UnitRef]:
        """Units whose originals the section shows."""
        return [each.unit for each in self.mistakes]


def known_label_section(sample: Sample, labels: LabelFile | None = None) -> KnownLabelSection:
    """Return the section. labels: Known labels, which count instead of the column."""
    schema = sample.results.schema()
    columns = [*COLUMNS, "uri", *probability_columns(schema), *([KNOWN_LABEL] if labels is None else [])]
    try:
        rows = read_labelled_rows(sample.numbered_batches(columns, MAX_ROWS), sample.results.run.label_names, labels)
        metrics = metrics_of(rows)
    except UsageError as error:  # labels of another kind, or a missing extra: the rest of the page stays
        return KnownLabelSection(note=sample.note, reason=str(error))
    worst = sorted(metrics.classes, key=lambda each: (each.f1, -each.support, each.label))
    probable, mistakes = 0, list[ProbableMistake]()
    if len(np.unique(rows.known)) > 1:
        ranked = mistakes_of(rows)
        probable = int(np.count_nonzero(ranked["mistake"].to_numpy()))
        shards = dict(zip(rows.table["id"].to_pylist(), rows.table["shard"].to_pylist(), strict=True))
        mistakes = [
            ProbableMistake(
                unit=UnitRef(row["id"], row["uri"], shards[row["id"]]),
                name=shown_name(row["id"]),
                known=shown_name(row["known_label"], LABEL_LETTERS),
                label=shown_name(row["label"], LABEL_LETTERS),
                score=row["score"],
            )
            for row in ranked.slice(0, min(probable, SHOWN_MISTAKES)).to_pylist()
        ]
    return KnownLabelSection(
        note=sample.note,
        metrics=metrics,
        classes=worst[:SHOWN_CLASSES],
        others=max(0, len(worst) - SHOWN_CLASSES),
        confusions=[
            (shown_name(each.known, LABEL_LETTERS), shown_name(each.predicted, LABEL_LETTERS), each.units)
            for each in metrics.confusions[:SHOWN_CONFUSIONS]
        ],
        plot=_reliability_plot(metrics.reliability),
        probable=probable,
        mistakes=mistakes,
    )


def _reliability_plot(bins: Sequence[ReliabilityBin]) -> Plot:
    words = "; ".join(
        f"score {each.low:.2f} to {each.high:.2f}: {each.accuracy:.0%} of {each.units:,} right" for each in bins
    )
    places = [(each.low, each.high, each.accuracy) for each in bins]
    return reliability(places, f"Share of right predictions by score. {words}.")
