"""A local file that an export writes part by part under another name, and continues after it was killed."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO

from pipeline.export.destination import Destination
from pipeline.runtime.errors import UsageError
from pipeline.storage.errors import translated_errors

SAVE_SECONDS = 2.0


@dataclass(kw_only=True)
class GrowingFile:
    """The unfinished file, `DEST.partial`; `DEST.partial.json` says how much of it is complete.

    Attributes:
        path: DEST.
        identity: of the export.
        parts: keys of the parts whose rows the file has.
        rows: number of rows that it has.
        notes: numbers of rows with a note.
    """

    path: Path
    identity: Mapping[str, Any]
    file: BinaryIO
    parts: list[str] = field(default_factory=list)
    rows: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    _saved: float = 0.0

    @classmethod
    @contextmanager
    def open(cls, destination: Destination, header: str) -> "Iterator[GrowingFile]":
        """Open a new file, which starts with the header, or the one that an earlier attempt did not finish.

        Raises UsageError if DEST exists, or if the unfinished file is of another export.
        """
        path = destination.path
        if path.exists():
            kind = (
                "is a folder: name a file in it" if path.is_dir() else "exists and is not overwritten: delete it first"
            )
            raise UsageError(f"{path} {kind}, or give another DEST")
        with translated_errors(str(path), "writing"):
            path.parent.mkdir(parents=True, exist_ok=True)
            known = _progress(path, destination.identity)
            if known is None:  # recorded first, so that the unfinished file is known as this export's
                known = {"parts": [], "bytes": 0, "rows": 0, "notes": {}}
                _record(path).write_text(json.dumps({"export": destination.identity, **known}))
            with _partial(path).open("r+b" if _partial(path).exists() else "xb") as file:
                file.truncate(known["bytes"])
                file.seek(known["bytes"])
                if not known["bytes"]:
                    file.write(header.encode())
                yield cls(
                    path=path,
                    identity=destination.identity,
                    file=file,
                    parts=known["parts"],
                    rows=known["rows"],
                    notes=Counter(known["notes"]),
                )

    def add(self, part: str, lines: str, rows: int) -> None:
        """Write the rows of a part."""
        self.file.write(lines.encode())
        self.parts.append(part)
        self.rows += rows
        if monotonic() - self._saved > SAVE_SECONDS:
            self._save()

    def finish(self) -> None:
        """Give the file its name, unless another program has made a file of that name."""
        self._save()
        try:
            os.link(_partial(self.path), self.path)
        except OSError:
            if self.path.exists():
                raise
            _partial(self.path).rename(self.path)  # on a file system without hard links
        _partial(self.path).unlink(missing_ok=True)
        _record(self.path).unlink()

    def _save(self) -> None:
        self._saved = monotonic()
        self.file.flush()
        os.fsync(self.file.fileno())
        state = {"parts": self.parts, "bytes": self.file.tell(), "rows": self.rows, "notes": self.notes}
        temporary = self.path.with_name(f"{self.path.name}.partial.json.new")
        temporary.write_text(json.dumps({"export": self.identity, **state}))
        temporary.replace(_record(self.path))


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial.json")


def _progress(path: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how much an earlier attempt wrote; None if there was none."""
    if not _record(path).exists():
        if _partial(path).exists():
            raise UsageError(f"{_partial(path)} exists and is not of an export: delete it, or give another DEST")
        return None
    known: dict[str, Any] = json.loads(_record(path).read_text())
    if known["export"] != identity:
        raise UsageError(
            f"{_partial(path)} is an unfinished export of other rows or columns: delete it and "
            f"{_record(path).name}, or give another DEST"
        )
    return known
