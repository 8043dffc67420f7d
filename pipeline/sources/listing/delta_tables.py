"""The data files of the current version of a Delta Lake table, as `deltalake` finds them in the table's log.

The log is copied to this machine by our own store, so that credentials, retries and redaction are those of all reads.
The files are then read like other Parquet files.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa

from pipeline.sources.listing.current_version import Unsupported
from pipeline.storage import Missing, Store

if TYPE_CHECKING:
    from deltalake import DeltaTable

LOG = "_delta_log/"
_FILE = re.compile(r"(\d{20})[\w.-]+|_last_checkpoint|_sidecars/\w[\w.-]+")  # in the log; no path that leads out of it
_COLUMN_MAPPING = "delta.columnMapping.mode"


def current_files(store: Store, table: str) -> Iterator[str]:
    """Yield the keys of the files that make up the latest version of a table.

    Raise Unsupported if the rows of the files are not those of the table: it has deletion vectors, or columns with
    other names. Raise ImportError without `deltalake`, and what that raises for a log that it cannot read.

    Args:
        store: that the keys are relative to.
        table: key of the table's folder with a slash, "" for the store itself.
    """
    from deltalake import DeltaTable

    with TemporaryDirectory() as folder:
        _copy_log(store, table + LOG, Path(folder, LOG))
        found = DeltaTable(folder)
        if reason := _obstacle(found):
            raise Unsupported(reason)
        for path in pa.table(found.get_add_actions(flatten=True)).column("path").to_pylist():
            yield table + unquote(path)


def _copy_log(store: Store, log: str, folder: Path) -> None:
    """Copy the log of a table from its last checkpoint on."""
    first = 0
    with suppress(Missing, ValueError, KeyError, TypeError):
        first = int(json.loads(store.read(f"{log}_last_checkpoint"))["version"])
    for key in store.keys(log):
        match = _FILE.fullmatch(key.removeprefix(log))
        if match is not None and int(match[1] or first) >= first:
            target = folder / match[0]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(store.read(key))


def _obstacle(table: "DeltaTable") -> str | None:
    """Return what makes the rows of the files other than those of the table, None if they are the same."""
    if (mode := table.metadata().configuration.get(_COLUMN_MAPPING, "none")) != "none":
        return f"columns that have other names in its files ({_COLUMN_MAPPING} is {mode})"
    features = table.protocol().reader_features or ()
    return "deletion vectors" if "deletionVectors" in features and _has_deletion_vectors(table) else None


def _has_deletion_vectors(table: "DeltaTable") -> bool:
    """Return whether a row of some file is deleted."""
    try:
        return any(len(pa.record_batch(batch)) for batch in table.deletion_vectors())
    except Exception:  # noqa: BLE001  there are some: they lie next to the files, and were not copied
        return True
