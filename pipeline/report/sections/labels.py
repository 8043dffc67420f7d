"""Labels: how they are distributed, how certain they are, and the least and most certain units."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.originals.originals import UnitRef
from pipeline.report.plots import Plot, histogram
from pipeline.report.sample import Sample
from pipeline.report.shown_text import shown_name
from pipeline.sinks.parts import part_key

MAX_ROWS = 200_000
SHOWN_LABELS = 20
EXAMPLES = 8  # of the least and of the most certain units
RUNNERS = 2  # next best labels of an example
BINS = 20
LABEL_LETTERS = 60


@dataclass(frozen=True, kw_only=True)
class LabelCount:
    """A label, the number of its rows in the sample and their share."""

    name: str
    rows: int
    share: float


@dataclass(frozen=True, kw_only=True)
class LabelledUnit:
    """An example. `runners`: the next best labels with their scores."""

    unit: UnitRef
    name: str
    label: str
    score: float
    runners: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True, kw_only=True)
class LabelSection:
    """Labels of a sample. `others`: number of labels that are not in `labels`, and of their rows. `is_probability`:
    scores are between 0 and 1; those of a regression are not."""

    note: str
    labels: Sequence[LabelCount]
    others: tuple[int, int]
    plot: Plot
    median: float
    is_probability: bool
    least: Sequence[LabelledUnit]
    most: Sequence[LabelledUnit]

    @property
    def units(self) -> list[UnitRef]:
        """Units whose originals the section shows."""
        return [example.unit for example in (*self.least, *self.most)]


@dataclass(kw_only=True)
class _Extremes:
    """The rows of lowest and highest scores so far, as (score, id, uri, shard, label)."""

    least: list[tuple[float, str, str, int, str]] = field(default_factory=list)
    most: list[tuple[float, str, str, int, str]] = field(default_factory=list)

    def add(self, shard: int, batch: pa.RecordBatch, scores: np.ndarray) -> None:
        order = np.argsort(scores, kind="stable")
        picked = sorted({*order[: 2 * EXAMPLES].tolist(), *order[-2 * EXAMPLES :].tolist()})
        rows = batch.take(pa.array(picked, pa.int64())).to_pylist()
        found = [(row["score"], row["id"], row["uri"], shard, row["label"]) for row in rows]
        self.least = sorted([*self.least, *found])[: 2 * EXAMPLES]
        self.most = sorted([*self.most, *found])[-2 * EXAMPLES :]


def label_section(sample: Sample) -> LabelSection | None:
    """Return the section, None if the sample has no rows."""
    counts: Counter[str] = Counter()
    scores: list[np.ndarray] = []
    extremes = _Extremes()
    for shard, batch in sample.batches(["id", "uri", "label", "score"], MAX_ROWS):
        if not batch.num_rows:
            continue
        scores.append(batch.column("score").to_numpy(zero_copy_only=False))
        counts.update(batch.column("label").to_pylist())
        extremes.add(shard, batch, scores[-1])
    if not scores:
        return None
    values = np.concatenate(scores)
    least, most = _apart(extremes)
    topk = _read_topk(sample, [*least, *most])
    return LabelSection(
        note=sample.note,
        labels=[_counted(name, rows, len(values)) for name, rows in counts.most_common(SHOWN_LABELS)],
        others=(max(0, len(counts) - SHOWN_LABELS), sum(rows for _, rows in counts.most_common()[SHOWN_LABELS:])),
        plot=score_plot(values, "score of the best label"),
        median=float(np.median(values)),
        is_probability=_is_probability(values),
        least=[_example(row, topk) for row in least],
        most=[_example(row, topk) for row in most],
    )


def score_plot(values: np.ndarray, x: str) -> Plot:
    """Return the histogram of scores, between 0 and 1 unless they are values of a regression."""
    low, high = (0.0, 1.0) if _is_probability(values) else (float(values.min()), float(values.max()))
    return binned(values, low, high, x, "Rows")


def binned(values: np.ndarray, low: float, high: float, x: str, noun: str) -> Plot:
    """Return the histogram of values between `low` and `high`, in words too. noun: What is counted, such as Rows."""
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    counts, _ = np.histogram(values, edges)
    words = ", ".join(
        f"{begin:.3g} to {end:.3g}: {count:,}"
        for begin, end, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
        if count
    )
    return histogram(counts, edges, x, f"Histogram. {noun} by {x}: {words}.")


def _is_probability(values: np.ndarray) -> bool:
    return bool(values.min() >= 0 and values.max() <= 1)


def _apart(extremes: _Extremes) -> tuple[list[Any], list[Any]]:
    """Return the least certain rows, and the most certain ones, the best first, without a row that is in both."""
    union = sorted({*extremes.least, *extremes.most})
    half = min(EXAMPLES, (len(union) + 1) // 2)
    return union[:half], union[half:][-EXAMPLES:][::-1]


def _read_topk(sample: Sample, rows: Iterable[tuple[float, str, str, int, str]]) -> dict[str, list[dict[str, Any]]]:
    rows = list(rows)
    parts = sorted({part_key(sample.results.run.run, row[3]) for row in rows})
    found = sample.results.rows(columns=["id", "topk"], ids=[row[1] for row in rows], parts=parts)
    return {row["id"]: row["topk"] for row in found}


def _example(row: tuple[float, str, str, int, str], topk: dict[str, list[dict[str, Any]]]) -> LabelledUnit:
    score, unit_id, uri, shard, label = row
    runners = topk.get(unit_id, [])[1 : 1 + RUNNERS]
    return LabelledUnit(
        unit=UnitRef(unit_id, uri, shard),
        name=shown_name(unit_id),
        label=shown_name(label, LABEL_LETTERS),
        score=score,
        runners=[(shown_name(each["label"], LABEL_LETTERS), each["score"]) for each in runners],
    )


def _counted(name: str, rows: int, total: int) -> LabelCount:
    return LabelCount(name=shown_name(name, LABEL_LETTERS), rows=rows, share=rows / total)
