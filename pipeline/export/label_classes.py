"""Labels of an exported dataset as classes: predicted and known labels are numbers of one list of names."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.export.destination import Destination
from pipeline.export.exported import Selection
from pipeline.formatting import count, counted
from pipeline.labelling.labelled_rows import known_labels, named_labels, read_rows, written_labels
from pipeline.results import Results
from pipeline.runtime.errors import UsageError
from pipeline.runtime.stages.known_labels import KNOWN_LABEL

if TYPE_CHECKING:
    from datasets import ClassLabel

MAX_OTHERS = 10_000  # known labels that the run does not have: the card lists all names
_PREDICTED = ("label_id", "label", "topk")
_UNSEEN = "unseen_"


@dataclass(frozen=True, kw_only=True)
class LabelClasses:
    """The names of the classes, and which columns hold their numbers.

    Attributes:
        names: the labels of the run by their numbers, then known labels that it does not have.
        written: how known labels write each of them: by its name, or by its number.
        predicted: whether `label` holds classes.
        known: whether `known_label` does.
    """

    names: Sequence[str] = ()
    written: Sequence[str] = ()
    predicted: bool = False
    known: bool = False

    @property
    def features(self) -> "dict[str, ClassLabel]":
        """The features of the columns that hold classes."""
        from datasets import ClassLabel

        columns = {"label": self.predicted, KNOWN_LABEL: self.known}
        return {name: ClassLabel(names=list(self.names)) for name, is_class in columns.items() if is_class}

    def of_known(self, labels: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
        """Return the values of `known_label` for known labels, which are texts or null."""
        return pc.index_in(labels, value_set=pa.array(self.written, pa.string())) if self.known else labels


def count_known_labels(selection: Selection, notes: Counter[str]) -> Counter[str]:
    """Return the number of units by known label; `notes` says which ids of a file have no row.

    UsageError if there is a file, and it labels no unit.
    """
    results, file = selection.results, selection.label_file
    if file is not None:
        rows = read_rows(results.batches(["id"], ids=selection.ids, where=selection.where))
        known, unused = known_labels(rows, file)
        notes.update(dict.fromkeys(unused, 0))
    elif selection.has_known_labels:
        batches = results.batches([KNOWN_LABEL], ids=selection.ids, where=selection.where)
        known = [label for batch in batches for label in batch.column(KNOWN_LABEL).to_pylist()]
    else:
        known = []
    return Counter(label for label in known if label is not None)


def label_classes(
    selection: Selection, found: Counter[str], destination: Destination, notes: Counter[str]
) -> LabelClasses:
    """Return the classes of an export, and add to `notes` what is assumed.

    found: The number of units by known label.

    UsageError if DEST has rows with other classes, which numbers could not be told from those of new rows.
    """
    own = _own_names(selection, notes)
    if not selection.has_known_labels:
        return LabelClasses(names=own, predicted=bool(own))
    written, assumed = written_labels(found, own)
    others = Counter({label: units for label, units in found.items() if label not in set(written)})
    stored = _stored_names(destination)
    added = [*(stored or ())[len(own) :]]
    added += sorted(others.keys() - set(added))
    is_known = _can_be_classes(selection, own, added, notes)
    if stored is not None and (bool(stored) != is_known or (is_known and list(stored[: len(own)]) != own)):
        raise UsageError(f"{destination.uri} has rows whose known labels are other classes: name a new folder")
    if not is_known:
        return LabelClasses(names=own, predicted=bool(own))
    notes.update(dict.fromkeys(assumed, 0))
    if own and others:
        named = named_labels(others, own)
        units = counted(others.total(), "unit")
        notes[f"{units} with known labels that the run does not have, which follow its own: {named}"] = 0
    return LabelClasses(names=[*own, *added], written=[*written, *added], predicted=bool(own), known=True)


def _can_be_classes(selection: Selection, own: Collection[str], added: Sequence[str], notes: Counter[str]) -> bool:
    """Return whether known labels can be classes; `notes` says why not."""
    reason = ""
    if not own and set(_PREDICTED) <= set(selection.schema.names):
        reason = "those of the run are"
    elif len(own) == 1:
        reason = "the run has one label only"
    elif len(added) > MAX_OTHERS:
        reason = f"{count(len(added))} of them are not labels of the run, more than {count(MAX_OTHERS)}"
    elif not own and not added:
        reason = "no label is known"
    if reason:
        notes[f"known labels are texts: {reason}"] = 0
    return not reason


def _own_names(selection: Selection, notes: Counter[str]) -> list[str]:
    """Return the name of each label of the run by its number; [] for a run without labels, or if two have one name."""
    if not set(_PREDICTED) <= set(selection.schema.names):
        return []
    names = list(selection.results.run.label_names) or _seen_names(selection.results)
    if len(set(names)) < len(names):
        notes["two labels have the same name, so labels are texts"] = 0
        return []
    if unseen := sum(name.startswith(_UNSEEN) for name in names):
        notes[f"labels that no row has are called {_UNSEEN} and their number"] = unseen
    return names


def _seen_names(results: Results) -> list[str]:
    """Return the names in the rows, for a run of an earlier version, which did not record them."""
    names: dict[int, str] = {}
    for batch in results.batches(_PREDICTED):
        for row in batch.to_pylist():
            names |= {label["label_id"]: label["label"] for label in [row, *row["topk"]]}
    return [names.get(number, f"{_UNSEEN}{number}") for number in range(max(names, default=-1) + 1)]


def _stored_names(destination: Destination) -> Sequence[str] | None:
    """Return the classes of known labels in DEST, of all parts; () if they are texts there, None without rows."""
    from datasets import ClassLabel, Features

    names: Sequence[str] | None = None
    for shard in sorted((destination.path / "data").glob("*.parquet")):
        feature = Features.from_arrow_schema(pq.read_schema(shard)).get(KNOWN_LABEL)
        here = feature.names if isinstance(feature, ClassLabel) else ()
        names = max(names or (), here, key=len)
    return names
