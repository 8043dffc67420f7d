"""Exports for labelling: units in an order, as CSV: probable mistakes, what to label next, near duplicates."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.export.csv_rows import csv_text
from pipeline.export.destination import Destination
from pipeline.export.exported import Exported, Format, Selection
from pipeline.export.growing_file import GrowingFile
from pipeline.export.table_files import csv_line, plain
from pipeline.formatting import counted, share
from pipeline.labelling.notes import notes_of
from pipeline.runtime.errors import UsageError

_ALL = "all rows"  # a ranking needs all of them, so that the file is written at once
DEFAULT_COUNT = 100  # of a queue


def _mistakes(selection: Selection) -> tuple[pa.Table, str]:
    ranked = selection.results.mistakes(selection.label_file, selection.ids, selection.where)
    return ranked, f"{share(pc.sum(ranked['mistake']).as_py() or 0, ranked.num_rows, 'label')} probably wrong"


def _queue(selection: Selection) -> tuple[pa.Table, str]:
    count = selection.count or DEFAULT_COUNT
    return selection.results.queue(count, selection.label_file, selection.ids, selection.where), ""


def _duplicates(selection: Selection) -> tuple[pa.Table, str]:
    found = selection.results.duplicates(ids=selection.ids, where=selection.where)
    return found, f"{counted(pc.max(found['group']).as_py() or 0, 'group')} of units that resemble each other"


def _ranking(name: str, make: Callable[[Selection], tuple[pa.Table, str]], *options: str) -> Format:
    def write(selection: Selection, destination: Destination) -> Exported:
        table, summary = make(selection)
        exported = Exported(path=destination.store.uri, written=1)
        with GrowingFile.open(destination, csv_text(table.column_names)) as file:
            if _ALL not in file.parts:
                kinds = {field.name: field.type for field in table.schema}
                rows = ({name: plain(row[name], kind) for name, kind in kinds.items()} for row in table.to_pylist())
                lines = [csv_line(row, file.notes) for row in rows]
                file.add(_ALL, "".join(lines), len(lines))
            exported.rows, exported.notes = file.rows, +file.notes
            file.finish()
        exported.notes.update(dict.fromkeys([*filter(None, [summary]), *notes_of(table)], 0))
        return exported

    return Format(name=name, target="local file", check=_check, write=write, options=options)


def _check(selection: Selection) -> None:
    if not selection.schema.names:
        raise UsageError(f"{selection.results.store.uri} has no rows yet")


MISTAKES = _ranking("mistakes", _mistakes, "labels")
QUEUE = _ranking("queue", _queue, "labels", "count")
DUPLICATES = _ranking("duplicates", _duplicates)
