"""Known labels: how good the predictions are where labels are known, and which of the labels are probably wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from pipeline.labelling.labelled_rows import COLUMNS, LabelledRows, read_labelled_rows
from pipeline.labelling.metrics import ClassMetrics, Metrics, ReliabilityBin, metrics_of
from pipeline.labelling.mistakes import mistakes_of
from pipeline.labelling.probabilities import probability_columns
from pipeline.originals.originals import UnitRef
from pipeline.report.plots import Plot, reliability
from pipeline.report.sample import Sample, spread
from pipeline.report.shown_text import shown_name
from pipeline.runtime.errors import UsageError
from pipeline.runtime.stages.known_labels import KNOWN_LABEL
from pipeline.sources.label_files import LabelFile

MAX_ROWS = 100_000
MAX_PROBABILITIES = 16_000_000  # of units by labels, from which mistakes are ranked in 0.8 GB
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
class ProbableMistakes:
    """Known labels that are taken for wrong: their number among `judged` units, and the first of them.

    `reason`: why they are not ranked; then all else is empty.
    """

    reason: str = ""
    judged: int = 0
    number: int = 0
    shown: Sequence[ProbableMistake] = ()


@dataclass(frozen=True, kw_only=True)
class KnownLabelSection:
    """Metrics of a sample. `reason`: why there are none; then all but `note` is empty.

    `classes`: those with the lowest F1 first. `others`: number of classes that are not shown.
    """

    note: str
    reason: str = ""
    metrics: Metrics | None = None
    classes: Sequence[ClassMetrics] = ()
    others: int = 0
    confusions: Sequence[tuple[str, str, int]] = ()
    plot: Plot | None = None
    mistakes: ProbableMistakes | None = None

    @property
    def units(self) -> list[UnitRef]:
        """Units whose originals the section shows."""
        return [] if self.mistakes is None else [each.unit for each in self.mistakes.shown]


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
    return KnownLabelSection(
        note=sample.note,
        metrics=metrics,
        classes=[replace(each, label=shown_name(each.label, LABEL_LETTERS)) for each in worst[:SHOWN_CLASSES]],
        others=max(0, len(worst) - SHOWN_CLASSES),
        confusions=[
            (shown_name(each.known, LABEL_LETTERS), shown_name(each.predicted, LABEL_LETTERS), each.units)
            for each in metrics.confusions[:SHOWN_CONFUSIONS]
        ],
        plot=_reliability_plot(metrics.reliability),
        mistakes=_probable_mistakes(rows),
    )


def _probable_mistakes(rows: LabelledRows) -> ProbableMistakes:
    """Rank the known labels, of many units those of some, since the probabilities of all labels take memory."""
    most = MAX_PROBABILITIES // len(np.unique(rows.known))
    if most < len(rows.known):
        some = np.array(spread(range(len(rows.known)), most))
        rows = replace(rows, table=rows.table.take(pa.array(some)), known=rows.known[some])
    try:
        ranked = mistakes_of(rows)
    except UsageError as error:  # one label only, for example: the metrics stay
        return ProbableMistakes(reason=str(error))
    number = int(np.count_nonzero(ranked["mistake"].to_numpy()))
    shards = dict(zip(rows.table["id"].to_pylist(), rows.table["shard"].to_pylist(), strict=True))
    shown = [
        ProbableMistake(
            unit=UnitRef(row["id"], row["uri"], shards[row["id"]]),
            name=shown_name(row["id"]),
            known=shown_name(row["known_label"], LABEL_LETTERS),
            label=shown_name(row["label"], LABEL_LETTERS),
            score=row["score"],
        )
        for row in ranked.slice(0, min(number, SHOWN_MISTAKES)).to_pylist()
    ]
    return ProbableMistakes(judged=ranked.num_rows, number=number, shown=shown)


def _reliability_plot(bins: Sequence[ReliabilityBin]) -> Plot:
    words = "; ".join(
        f"score {each.low:.2f} to {each.high:.2f}: {each.accuracy:.0%} of {each.units:,} right" for each in bins
    )
    places = [(each.low, each.high, each.accuracy) for each in bins]
    return reliability(places, f"Share of right predictions by score. {words}.")
