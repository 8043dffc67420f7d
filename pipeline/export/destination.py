"""DEST of an export: it belongs to one export, whose files appear whole and are never overwritten.

A folder has `_export/`: the export that it belongs to, and the row that each file belongs to, recorded before the file
is written. So the same command knows its own files, also after it was killed.
"""

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from pipeline.export.csv_rows import csv_text
from pipeline.export.file_names import FileNames, owner
from pipeline.runtime.errors import UsageError
from pipeline.storage import Missing, Store
from pipeline.storage.entry import TEMPORARY_PREFIX
from pipeline.storage.uris import split_scheme

STATE = "_export/export.json"
NAMES = "_export/names"
INDEX = "index.csv"


@dataclass(kw_only=True)
class Destination:
    """DEST, and the export that writes to it.

    Attributes:
        uri: a local path or a URI.
        identity: what distinguishes this export from others: run, format, and which rows.
    """

    uri: str
    identity: Mapping[str, Any]
    _names: FileNames = field(default_factory=FileNames)

    @cached_property
    def store(self) -> Store:
        return Store(self.uri)

    @property
    def path(self) -> Path:
        """The local path."""
        return Path(self.store.uri)

    def open_folder(self) -> None:
        """Claim the folder, or continue in it. UsageError if it holds anything else, AccessError if not writable."""
        found = self._read_state()
        if found is None:
            if (other := next(self.store.keys(), None)) is not None:
                raise UsageError(
                    f"{self.uri} holds other files, such as {other!r}, and nothing is overwritten: name a new folder"
                )
            self.store.check_writable()
            self.store.put_if_absent(STATE, json.dumps(self.identity, indent=1).encode())
            found = self._read_state()
        if found != self.identity:
            raise UsageError(
                f"{self.uri} holds another export ({_differences(found, self.identity)}): name a new folder"
            )
        for entry in self._entries():
            self._names.add(entry["file"], entry["owner"])

    def name_files(self, units: Iterable[Mapping[str, Any]], extension: str) -> list[str]:
        """Return the name of the file of each unit, with "id" and "version", and record new names with their units.

        UsageError if another program made a file of a new name.
        """
        names, new = [], []
        for unit in units:
            name = self._names.name_of(unit["id"], unit["version"], extension)
            if name not in self._names:
                if self.has(name):
                    raise UsageError(
                        f"{self.store.uri_of(name)} exists and is not of this export: move it, or name a new folder"
                    )
                new.append({**unit, "file": name, "owner": owner(unit["id"], unit["version"])})
                self._names.add(name, new[-1]["owner"])
            names.append(name)
        if new:
            self._record(new)
        return names

    def recorded(self) -> dict[str, dict[str, Any]]:
        """Return what is recorded of each file, by its name."""
        return {entry["file"]: entry for entry in self._entries()}

    def replace(self, entry: Mapping[str, Any], data: bytes) -> None:
        """Write a file of this export with a new content, and then what is recorded of it."""
        self.store.put(entry["file"], data)
        self._record([entry])

    def _record(self, entries: Iterable[Mapping[str, Any]]) -> None:
        lines = "".join(json.dumps(entry) + "\n" for entry in entries)
        # Read in the order of names: later records replace earlier ones.
        self.store.put_if_absent(f"{NAMES}-{time.time_ns():020d}-{uuid4().hex}.jsonl", lines.encode())

    def has(self, name: str) -> bool:
        """Return whether the file exists."""
        try:
            self.store.size(name)
        except Missing:
            return False
        return True

    def put_index(self) -> None:
        """Write index.csv, with the row of each file, and join the records of names to one file."""
        entries = sorted(self._entries(), key=lambda entry: entry["file"])
        columns = [name for name in dict.fromkeys(name for entry in entries for name in entry) if name != "owner"]
        lines = [csv_text(columns), *(csv_text([entry.get(name) for name in columns]) for entry in entries)]
        joined = "".join(json.dumps(entry) + "\n" for entry in entries)
        self.store.put(f"{NAMES}.jsonl", joined.encode())
        for key in list(self.store.keys(f"{NAMES}-")):
            self.store.delete(key)
        self.store.put(INDEX, "".join(lines).encode())
        self.remove_temporary_files()

    def remove_temporary_files(self) -> None:
        """Remove the temporary files of this export, which attempts that were killed left in a local folder."""
        if split_scheme(self.store.uri)[0] is None:
            shutil.rmtree(self.path / TEMPORARY_PREFIX, ignore_errors=True)
            self.store.remove_empty_folders()

    def _entries(self) -> Iterator[dict[str, Any]]:
        """Yield the latest record of each file."""
        keys = sorted(self.store.keys(NAMES), key=lambda key: (key != f"{NAMES}.jsonl", key))
        lines = (line for key in keys for line in self.store.read(key).decode().splitlines())
        yield from {entry["file"]: entry for entry in map(json.loads, lines)}.values()

    def _read_state(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads(self.store.read(STATE)))
        except Missing:
            return None


def _differences(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> str:
    found = found or {}
    names = [name for name in wanted if found.get(name) != wanted[name]]
    return ", ".join(f"{name} {found.get(name)}, not {wanted[name]}" for name in names)
