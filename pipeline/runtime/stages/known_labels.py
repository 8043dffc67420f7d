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
        file: key of a Parquet file in OUTPUT with ids and labels, a copy of the user's, see `put_labels`.
    """

    column: str | None = None
    folder: bool = False
    file: str | None = None

    @property
    def fingerprint(self) -> dict[str, str]:
        """The entry of the fingerprint in run.json. Labels in a file may change: they change no prediction."""
        of = f"column {self.column}" if self.column else "folder" if self.folder else "file"
        return {KNOWN_LABEL: of}

    def of(self, units: Sequence[Unit], inputs: Store, output: Store) -> pa.Array:
        """Return the labels of units as text, null where none is known. inputs: what the units were read from."""
        if self.file is not None:
            return _labels(output, self.file).of(pa.array([unit.id for unit in units], pa.string()))
        if self.folder:
            return pa.array([_folder_name(unit.uri, inputs.uri) for unit in units], pa.string())
        return pa.array([_text(unit.kept.get(self.column or "")) for unit in units], pa.string())


def put_labels(output: Store, labels: LabelFile) -> str:
    """Copy labels to OUTPUT, where every worker can read them, and return the key."""
    data = labels.to_parquet()
    key = f"{FOLDER}{hashlib.sha256(data).hexdigest()[:16]}.parquet"
    output.put_if_absent(key, data)
    return key


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
