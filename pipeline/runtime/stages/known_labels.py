"""Known labels of units, which travel to the output as the column `known_label`."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa

from pipeline.sinks.run_records import read_record
from pipeline.sources.label_files import LabelFile
from pipeline.sources.records.record_reader import as_text
from pipeline.sources.source import Unit
from pipeline.storage import Store

KNOWN_LABEL = "known_label"
FOLDER = "_run/labels/"


@dataclass(frozen=True, kw_only=True)
class KnownLabels:
    """Where the known label of a unit comes from: one of these.

    Attributes:
        column: a column of its table, metadata file or Hive folders, which is kept.
        folder: whether it is the name of the folder that its file is in; a file directly in INPUT has none.
        file: the content of the user's file of labels.
        copy: key of a copy of it in OUTPUT, see `stored_in`.
    """

    column: str | None = None
    folder: bool = False
    file: LabelFile | None = None
    copy: str | None = None

    @property
    def fingerprint(self) -> dict[str, str]:
        """The entry of the fingerprint in run.json. Labels in a file may change: they change no prediction."""
        of = f"column {self.column}" if self.column else "folder" if self.folder else "file"
        return {KNOWN_LABEL: of}

    def stored_in(self, output: Store) -> "KnownLabels":
        """Return what is sent to workers: in place of the labels of a file, the key of a copy that they can read."""
        if self.file is None:
            return self
        data = self.file.to_parquet()
        key = f"{FOLDER}{hashlib.sha256(data).hexdigest()[:16]}.parquet"
        output.put_if_absent(key, data)
        return KnownLabels(copy=key)

    def of(self, units: Sequence[Unit], inputs: Store, output: Store) -> pa.Array:
        """Return the labels of units as text, null where none is known. inputs: what the units were read from."""
        labels = self.file if self.copy is None else _labels(output, self.copy)
        if labels is not None:
            return labels.of(pa.array([unit.id for unit in units], pa.string()))
        if self.folder:
            return pa.array([_folder_name(unit.uri, inputs.uri) for unit in units], pa.string())
        return pa.array([_text(unit.kept.get(self.column or "")) for unit in units], pa.string())


@lru_cache(maxsize=1)
def _labels(output: Store, key: str) -> LabelFile:
    """Return the labels in OUTPUT, which a worker process reads once."""
    return read_record(output, key, lambda data: LabelFile.from_parquet(output.uri_of(key), data))


def _folder_name(uri: str, inputs: str) -> str | None:
    """Return the name of the folder of a file, None for the root of INPUT, and for files outside INPUT."""
    if not uri.startswith(root := f"{inputs.rstrip('/')}/"):
        return None
    folders = uri[len(root) :].split("/")[:-1]
    return folders[-1] if folders else None


def _text(value: Any) -> str | None:
    """Return a label as text; an empty one is none."""
    return as_text(value.as_py() if isinstance(value, pa.Scalar) else value) or None
