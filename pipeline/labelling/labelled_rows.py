"""Predictions of the units whose label is known, as arrays."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.formatting import counted, did_you_mean, first_of, share
from pipeline.runtime.errors import UsageError
from pipeline.runtime.stages.known_labels import KNOWN_LABEL
from pipeline.sources.label_files import LabelFile

COLUMNS = ("id", "label_id", "label", "score")
"""What is read of each row at least; and `known_label`, if the rows have it."""

NAMED = 10  # ids of a file that the run does not have
MAX_NAMED, LETTERS = 5, 80  # labels that the model does not have, and how much of each
MAX_COMPARED = 10_000  # labels of a model, of which similar ones are suggested: each takes 30 microseconds


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """Predictions of n units with a known label, of K that the model has. A unit that was predicted again counts once.

    Attributes:
        names: the K labels of the model.
        table: the n rows, with the columns that were read.
        known: int64 [n], indices of `names`.
        unlabelled: number of other units.
        foreign: number of units by known label, where the model does not have it. They are not among the n.
        notes: sentences about assumptions, and about ids and labels that do not count.
    """

    names: Sequence[str]
    table: pa.Table
    known: np.ndarray
    unlabelled: int = 0
    foreign: Counter[str] = field(default_factory=Counter)
    notes: Sequence[str] = ()

    @property
    def predicted(self) -> np.ndarray:
        """int64 [n], indices of `names`: the best label of each unit."""
        return self.table["label_id"].to_numpy().astype(np.int64)

    @property
    def scores(self) -> np.ndarray:
        """float32 [n] of the best label."""
        return self.table["score"].to_numpy()


def read_labelled_rows(
    batches: Iterable[pa.RecordBatch], names: Sequence[str], labels: LabelFile | None = None
) -> LabelledRows:
    """Return the rows whose label is known.

    Args:
        batches: Rows with `COLUMNS`, of several versions of a unit the latest last, and with `known_label` unless
            there is a file.
        names: The labels of the model, by id; () takes those of the rows.
        labels: A file of labels, which count instead of the column.

    Raises:
        UsageError: No label is known, or none of them is one of the model.
    """
    table = read_rows(batches)
    known, notes = known_labels(table, labels)
    names = list(names) or _names_in(table)
    found = Counter(label for label in known if label is not None)
    written, assumed = written_labels(found, names)
    index = {label: number for number, label in enumerate(written)}
    notes += assumed
    foreign = Counter({label: units for label, units in found.items() if label not in index})
    if len(foreign) == len(found):
        raise UsageError(f"none of the known labels is one of the checkpoint: {named_labels(foreign, names)}")
    if foreign:
        notes.append(
            f"left out: {counted(foreign.total(), 'unit')} with labels that the checkpoint does not have: "
            f"{named_labels(foreign, names)}"
        )
    codes = np.array([-1 if label is None else index.get(label, -1) for label in known], np.int64)
    return LabelledRows(
        names=names,
        table=table.take(pa.array(np.flatnonzero(codes >= 0))),
        known=codes[codes >= 0],
        unlabelled=table.num_rows - found.total(),
        foreign=foreign,
        notes=notes,
    )


def read_rows(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """Return the rows, of each unit the last one. UsageError if there are none."""
    rows = list(batches)
    if not rows:
        raise UsageError("the run has no rows yet, or none that is selected")
    table = pa.Table.from_batches(rows)
    return table.take(pa.array(last_rows(table["id"])))


def known_labels(table: pa.Table, labels: LabelFile | None) -> tuple[list[str | None], list[str]]:
    """Return the known label of each row, and what of the file was not used.

    table: With `id`, and with `known_label` unless there is a file. UsageError if no label is known.
    """
    notes = [] if labels is None else notes_on(labels, table["id"])
    known = (table[KNOWN_LABEL] if labels is None else labels.of(table["id"].combine_chunks())).to_pylist()
    if all(label is None for label in known):
        where = f"{labels.uri} labels no unit of the run" if labels else f"column {KNOWN_LABEL} is empty"
        raise UsageError(f"no label is known: {where}")
    return known, notes


def written_labels(found: Collection[str], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return how the known labels in `found` write each label of the model: by its name, or by its number.

    The second value is the assumption, in sentences.
    """
    if found and not set(found) & set(names) and all(_is_number(label, len(names)) for label in found):
        numbers = [str(number) for number in range(len(names))]
        return numbers, ["the known labels are numbers: they are taken for ids of the checkpoint's labels"]
    return list(names), []


def named_labels(labels: Counter[str], names: Sequence[str]) -> str:
    """Name the most frequent of some labels that the model does not have, with similar ones that it has."""
    names = names if len(names) <= MAX_COMPARED else ()
    named = [f"{label[:LETTERS]!r}{did_you_mean(label, names)}" for label, _ in labels.most_common(MAX_NAMED)]
    return first_of(named, MAX_NAMED, len(labels))


def last_rows(ids: pa.ChunkedArray) -> np.ndarray:
    """Return the numbers of the rows that are the last ones of their units, ascending."""
    numbered = pa.table({"id": ids, "row": np.arange(len(ids))})
    return np.sort(numbered.group_by("id").aggregate([("row", "max")])["row_max"].to_numpy())


def _names_in(table: pa.Table) -> list[str]:
    """Return the labels of the rows by id, for a run of an earlier version; ids that no row has get no name."""
    pairs = dict(zip(table["label_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    return [pairs.get(number, f"LABEL_{number}") for number in range(max(pairs) + 1)]


def notes_on(labels: LabelFile, units: pa.ChunkedArray) -> list[str]:
    """Say what of a file does not count: its rows without a label, and ids that are none of the units, which have rows.

    UsageError if none of its ids is a unit.
    """
    ids = labels.table["id"]
    others = ids.filter(pc.invert(pc.is_in(ids, value_set=units.combine_chunks())))
    if not len(others):
        return labels.notes
    if len(others) == len(ids):
        raise UsageError(
            f"{labels.uri}: none of its {counted(len(ids), 'id')} has a row, for example {ids[0].as_py()!r}; "
            f"ids of rows look like {units[0].as_py()!r}"
        )
    named = first_of([repr(name) for name in others.slice(0, NAMED).to_pylist()], NAMED, len(others))
    return [*labels.notes, f"{labels.uri}: {share(len(others), len(ids), 'id')} without a row: {named}"]


def _is_number(label: str, labels: int) -> bool:
    return label.isdecimal() and label.isascii() and int(label) < labels
