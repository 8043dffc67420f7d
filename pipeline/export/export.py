"""Export the rows of a run: checks of DEST and of what the run has, then the format's own code."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from pipeline.export import FORMATS
from pipeline.export.destination import Destination
from pipeline.export.exported import Exported, Format, Selection
from pipeline.formatting import did_you_mean
from pipeline.results import Results
from pipeline.runtime.errors import UsageError
from pipeline.storage.schemes import require_writable
from pipeline.storage.uris import is_inside, normalise_uri, split_scheme


def export(
    results: Results,
    dest: str,
    to: str,
    *,
    ids: Collection[str] | None = None,
    where: str | None = None,
    columns: Sequence[str] | None = None,
    labels: str | None = None,
    count: int | None = None,
    on_part: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> Exported:
    """Export rows to DEST in the format `to`. The same call continues an export that was stopped.

    Args:
        results: The run.
        dest: Folder, or file for csv and jsonl. Nothing that is not of this export is overwritten.
        to: One of `FORMATS`.
        ids: Ids of units; None for all.
        where: SQL expression over the columns, such as "score < 0.5".
        columns: Names of the columns, in this order, for csv and jsonl; None for all but arrays and media.
        labels: File of known labels, for dataset, mistakes and queue; None for the column `known_label`.
        count: Number of units of a queue; None for 100.
        on_part: Called with the number of parts done and their total.

    Raises:
        UsageError: DEST, the format, an id, a column or the condition is wrong; nothing was written.
        StorageError: DEST cannot be written to, for example because the disk is full.
    """
    if to not in FORMATS:
        raise UsageError(f"--to ({to}) must be one of {', '.join(FORMATS)}{did_you_mean(to, FORMATS)}")
    kind, uri = FORMATS[to], normalise_uri(dest)
    _check_place(uri, kind, results)
    for name, value in {"columns": columns, "labels": labels, "count": count}.items():
        if value is not None and name not in kind.options:
            able = ", ".join(each.name for each in FORMATS.values() if name in each.options)
            raise UsageError(f"--{name} is not supported for --to {to}, only for {able}: omit it")
    selected = None if ids is None else frozenset(ids)
    selection = Selection(
        results=results, ids=selected, where=where, columns=columns, labels=labels, count=count, on_part=on_part
    )
    kind.check(selection)
    next(results.rows(["id"], where=where, parts=selection.parts[:1]), None)  # checks them before DEST is made
    return kind.write(selection, Destination(uri=uri, identity=_identity(selection, to)))


def _identity(selection: Selection, to: str) -> dict[str, Any]:
    """Return what distinguishes an export from others. Ids and labels are digests, since there may be many."""
    ids = "all"
    if selection.ids is not None:
        digest = hashlib.sha256("\n".join(sorted(selection.ids)).encode()).hexdigest()[:12]
        ids = f"{len(selection.ids)} ({digest})"
    identity: dict[str, Any] = {
        "run": selection.results.run.run,
        "format": to,
        "ids": ids,
        "where": selection.where or "all",
    }
    if selection.label_file is not None:
        digest = hashlib.sha256(selection.label_file.to_parquet()).hexdigest()[:12]
        identity["labels"] = f"{selection.labels} ({digest})"
    if selection.count is not None:
        identity["count"] = selection.count
    return identity if selection.columns is None else {**identity, "columns": list(selection.columns)}


def _check_place(uri: str, kind: Format, results: Results) -> None:
    """Raise UsageError if DEST is not where the format can be, or lies in OUTPUT or INPUT.

    AccessError if nothing can be written there.
    """
    require_writable(uri)
    if split_scheme(uri)[0] is not None and kind.target != "folder":
        raise UsageError(f"{uri}: --to {kind.name} writes to a {kind.target} only; copy it from there")
    if kind.target != "local file" and split_scheme(uri)[0] is None and Path(uri).is_file():
        raise UsageError(f"{uri} is a file; --to {kind.name} writes to a folder: name a new one")
    if is_inside(uri, results.store.uri):
        raise UsageError(
            f"{uri} lies in OUTPUT ({results.store.uri}), which holds a run and nothing else: name another"
        )
    if results.run.input and is_inside(uri, results.run.input):
        raise UsageError(
            f"{uri} lies in INPUT ({results.run.input}), where the next run would read the exported files: name another"
        )
