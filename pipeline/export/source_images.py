"""The images that rows are about, as the bytes of their files. They are copied and never decoded here."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.export.exported import Selection
from pipeline.storage import AccessError, StorageError, Store

THREADS = 16
NEEDED = ["id", "uri", "version"]
_TASK = "image-classification"
_COUNTED = "frames"  # a column that only rows of images have as a number


@dataclass(frozen=True, kw_only=True)
class SourceImages:
    """Reads the image file of a row, if the row is about a whole file.

    Attributes:
        notes: counts images that are not copied, by reason.
    """

    notes: Counter[str]
    _stores: dict[str, Store] = field(default_factory=dict)

    @classmethod
    def of(cls, selection: Selection, notes: Counter[str]) -> "SourceImages | None":
        """Return the images of a run; None if its units are not images."""
        schema = selection.schema
        counts = _COUNTED in schema.names and pa.types.is_integer(schema.field(_COUNTED).type)
        return cls(notes=notes) if counts or selection.results.task == _TASK else None

    def read(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
        """Return the content and the name of the image of each row, with the columns `NEEDED`; None if not copied."""
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(self._read, rows))

    def _read(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        unit, uri = row["id"], row["uri"] or ""
        folder = uri.removesuffix(f"/{unit}")
        if folder == uri:
            self.notes["images in archives or tables, or with an id of their own: not copied"] += 1
            return None
        try:
            store = self._stores.setdefault(folder, Store(folder))
            return {"bytes": store.read(unit, version=row["version"]), "path": unit.rpartition("/")[2]}
        except (StorageError, AccessError) as error:
            self.notes[f"images that cannot be read again ({type(error).__name__}): not copied"] += 1
            return None
