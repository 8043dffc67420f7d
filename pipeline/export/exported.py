"""What an export takes and gives: the rows of a run, a format, and the counts of what was made."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa

from pipeline.export.destination import Destination
from pipeline.results import Results
from pipeline.runtime.stages.known_labels import KNOWN_LABEL
from pipeline.sources.label_files import LabelFile, read_label_file


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Rows of a run: those of some units, or that fulfil a condition, or all.

    Attributes:
        results: the run.
        ids: ids of the units; None for all.
        where: SQL expression over the columns; None for all rows.
        columns: names of the columns, in their order in the export; None for all that the format can hold.
        labels: file of known labels, for rankings and datasets; None for those of the rows.
        count: number of units of a queue; None for the default.
        on_part: called with the number of parts done and their total.
    """

    results: Results
    ids: frozenset[str] | None = None
    where: str | None = None
    columns: Sequence[str] | None = None
    labels: str | None = None
    count: int | None = None
    on_part: Callable[[int, int], None] = lambda done, total: None  # noqa: ARG005

    @cached_property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return self.results.schema()

    @cached_property
    def label_file(self) -> LabelFile | None:
        """The content of `labels`, which is read once. AccessError if it cannot be read."""
        return None if self.labels is None else read_label_file(self.labels)

    @property
    def has_known_labels(self) -> bool:
        """Whether labels are known: there is a file of them, or a column."""
        return self.labels is not None or KNOWN_LABEL in self.schema.names

    @cached_property
    def parts(self) -> Sequence[str]:
        """Keys of the parts with these units that are committed when the export starts. NoRow if a unit has no row."""
        return list(self.results.parts() if self._units is None else self._units)

    @cached_property
    def _units(self) -> dict[str, set[str]] | None:
        return None if self.ids is None else self.results.units_by_part(self.ids)

    def each_part(self) -> Iterator[str]:
        """Yield the keys of the parts, and report how many are done."""
        for done, part in enumerate(self.parts):
            self.on_part(done, len(self.parts))
            yield part
        self.on_part(len(self.parts), len(self.parts))

    def rows(self, part: str, columns: Sequence[str], ids: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the rows in a part. ids: Some of the selected units in it; None for all."""
        return self.results.rows(columns, ids=self._ids(part) if ids is None else ids, where=self.where, parts=[part])

    def batches(self, part: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows in a part as record batches."""
        return self.results.batches(columns, ids=self._ids(part), where=self.where, parts=[part])

    def _ids(self, part: str) -> Collection[str] | None:
        return None if self._units is None else self._units[part]


@dataclass(kw_only=True)
class Exported:
    """What an export made.

    Attributes:
        path: what to open.
        written, present: number of files that this command wrote, and that were there already.
        rows: number of rows in them.
        notes: what was left out, changed or assumed, with the number of rows, or 0 if it concerns all of them.
    """

    path: str
    written: int = 0
    present: int = 0
    rows: int = 0
    notes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of exports.

    Attributes:
        name: as `--to` names it.
        target: what DEST is.
        check: raises UsageError if the run lacks what the format needs, or the format cannot hold what is selected.
        write: exports the selection to DEST.
        options: the names of its own options: "columns", "labels", "count".
    """

    name: str
    target: Literal["folder", "local folder", "local file"]
    check: Callable[[Selection], None]
    write: Callable[[Selection, Destination], Exported]
    options: tuple[str, ...] = ()
