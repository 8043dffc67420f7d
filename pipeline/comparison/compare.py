"""Compare two runs over the same inputs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.comparison.clip_differences import ClipColumns
from pipeline.comparison.comparison import Comparison, Side, UnitCounts
from pipeline.comparison.destination import Destination
from pipeline.comparison.differences import Respect, differences_table
from pipeline.comparison.embedding_differences import EmbeddingColumns
from pipeline.comparison.flow_differences import FlowColumns
from pipeline.comparison.known_labels import (
    KnownLabelComparison,
    compare_known_labels,
    known_columns,
    known_texts,
)
from pipeline.comparison.label_changes import COLUMNS as LABEL_COLUMNS
from pipeline.comparison.label_changes import compare_labels
from pipeline.comparison.mask_changes import MaskColumns
from pipeline.comparison.pairs import compare_columns
from pipeline.comparison.settings import differing_settings
from pipeline.comparison.units import URI, VERSION, JoinedUnits, join_units, read_units
from pipeline.formatting import counted
from pipeline.labelling.labelled_rows import notes_on
from pipeline.results import Results, open_run
from pipeline.runtime.errors import UsageError
from pipeline.runtime.stages.known_labels import KNOWN_LABEL
from pipeline.sources.label_files import LabelFile, read_label_file
from pipeline.storage.uris import is_inside

Output: TypeAlias = str | Path | Results

COMPARED = ("label", "flow", "points", "video", "audio", "masks", "embedding")
"""Columns that are compared if both runs have them."""


def compare(a: Output, b: Output, dest: str | Path | None = None, *, labels: str | Path | None = None) -> Comparison:
    """Compare two runs of one task over the same inputs, finished or not. Their units are joined by id.

    Args:
        a, b: Folders or URIs of the OUTPUTs, or results of `open_run`.
        dest: Folder or URI for comparison.html and differences.parquet; nothing is written without it.
        labels: File of known labels; None for the column `known_label` of either run.

    Raises:
        UsageError: A place is not the OUTPUT of a run or has no rows; both are the same; the tasks differ; no unit is
            in both; or DEST has other files of these names.
        AccessError: An OUTPUT, the file of labels or DEST cannot be accessed.
    """
    runs = [each if isinstance(each, Results) else open_run(each) for each in (a, b)]
    first, second = runs
    _check(first, second)
    destination = None if dest is None else Destination.at(str(dest), runs)
    if destination is not None:
        destination.check()
    file = None if labels is None else read_label_file(str(labels))
    found, units = _compare(first, second, file)
    if destination is not None:
        from pipeline.comparison.page import make_page  # with libraries of plots, which take a second to import

        destination.write(found.differences, make_page(found, units, first, second))
    return found


def _check(a: Results, b: Results) -> None:
    """Raise UsageError unless these are two runs of one task."""
    if is_inside(a.store.uri, b.store.uri) and is_inside(b.store.uri, a.store.uri):
        raise UsageError(f"{a.store.uri} is given twice: name the OUTPUTs of two runs")
    if a.task != b.task:
        raise UsageError(
            f"the runs have different tasks: {a.task} in {a.store.uri}, {b.task} in {b.store.uri}. Compare runs of one "
            "task"
        )


def _compare(a: Results, b: Results, labels: LabelFile | None) -> tuple[Comparison, JoinedUnits]:
    sides = [_side(a), _side(b)]
    names = [frozenset(results.schema().names) for results in (a, b)]
    notes = list(_notes(a, b, *names))
    common = names[0] & names[1]
    has_labels = common.issuperset(LABEL_COLUMNS)
    wanted = list(LABEL_COLUMNS) if has_labels else []
    known = [KNOWN_LABEL] if has_labels and labels is None else []
    units = join_units(*(read_units(run, [*wanted, *(own & {*known})]) for run, own in zip((a, b), names, strict=True)))
    arrays = _array_columns(units.a.num_rows, a.task, *names)
    compare_columns(units, (a.store, b.store), list(arrays.values()))
    respects = [respect for each in arrays.values() for respect in each.respects()]
    found: dict[str, Any] = {name: each.found() for name, each in arrays.items()}
    if has_labels:
        found["labels"], more = compare_labels(units.a, units.b, a.run.label_names, b.run.label_names)
        respects += more
        if not found["labels"].one_number:
            found["known_labels"], of_known, about_known = _known(units, a, b, labels)
            respects += of_known
            notes += about_known
    elif labels is not None:
        raise UsageError("--labels needs labels in the rows of both runs, which these do not have: omit it")
    if not respects:
        raise UsageError(
            f"{a.store.uri} and {b.store.uri} have nothing in common that can be compared: "
            f"{'; '.join(notes) or 'their columns are ' + ', '.join(sorted(common))}. Run both with the same --outputs "
            "and --points"
        )
    comparison = Comparison(
        task=a.task,
        a=sides[0],
        b=sides[1],
        units=_counts(units, a, b),
        settings=differing_settings(a.run, b.run),
        differences=differences_table(units, respects),
        notes=notes,
        **found,
    )
    return comparison, units


def _array_columns(
    units: int, task: str, names_a: frozenset[str], names_b: frozenset[str]
) -> dict[str, FlowColumns | ClipColumns | MaskColumns | EmbeddingColumns]:
    """Return the comparisons of large columns that both runs have, by the field of `Comparison`."""
    common = names_a & names_b
    found: dict[str, FlowColumns | ClipColumns | MaskColumns | EmbeddingColumns] = {}
    if "flow" in common and ("points" in names_a) == ("points" in names_b):
        found["flow"] = FlowColumns(units, common)
    if task == "multimodal-autoencoding" and not common.isdisjoint(("video", "audio")):
        found["clips"] = ClipColumns(units, common)
    if "masks" in common:
        found["masks"] = MaskColumns(units)
    if "embedding" in common:
        found["embeddings"] = EmbeddingColumns(units)
    return found


def _notes(a: Results, b: Results, names_a: frozenset[str], names_b: frozenset[str]) -> Iterator[str]:
    """Say what cannot be compared or is odd."""
    if a.run.run == b.run.run:
        yield f"A and B have the same name, {a.run.run}: one is a copy of the other, or of a part of it"
    for run, names, others in (("A", names_a, names_b), ("B", names_b, names_a)):
        if only := [name for name in COMPARED if name in names - others]:
            yield f"columns that only {run} has are not compared: {', '.join(only)}"


def _known(
    units: JoinedUnits, a: Results, b: Results, labels: LabelFile | None
) -> tuple[KnownLabelComparison | None, Sequence[Respect], Sequence[str]]:
    """Return the comparison with known labels, their column of the table, and why there is no comparison."""
    columns = known_columns(units.a, units.b)
    if labels is None and not columns:
        return None, [], []
    notes = [] if labels is None else notes_on(labels, units.ids.cast(pa.string()))
    known = known_texts(units.ids, columns, labels)
    if len(columns) == 2 and (other := pc.sum(pc.not_equal(*columns)).as_py() or 0):
        notes.append(f"left out: {counted(other, 'unit')} whose known labels differ between A and B")
    compared, more = compare_known_labels(units.a, units.b, known, (a.run.label_names, b.run.label_names))
    nothing = np.zeros(len(known), bool)
    respect = Respect(name=KNOWN_LABEL, differs=nothing, columns={KNOWN_LABEL: known})
    return compared, [respect], [*notes, *more]


def _side(results: Results) -> Side:
    known = results.status()
    return Side(output=results.store.uri, state=known.describe(), is_finished=known.finished)


def _counts(units: JoinedUnits, a: Results, b: Results) -> UnitCounts:
    same_uri = pc.equal(units.a[URI], units.b[URI])
    changed = pc.and_(same_uri, pc.not_equal(units.a[VERSION], units.b[VERSION]))
    return UnitCounts(
        both=units.a.num_rows,
        only_a=len(units.only_a),
        only_b=len(units.only_b),
        quarantined_in_b=_quarantined(units.only_a, b),
        quarantined_in_a=_quarantined(units.only_b, a),
        other_version=pc.sum(changed).as_py(),
        other_uri=pc.sum(pc.invert(same_uri)).as_py(),
    )


def _quarantined(ids: pa.Array, other: Results) -> int:
    """Return how many of the units the other run quarantined."""
    if not len(ids):
        return 0
    quarantined = other.quarantined()["id"].cast(pa.large_string()).combine_chunks()
    return int(pc.sum(pc.is_in(ids, value_set=quarantined)).as_py())
