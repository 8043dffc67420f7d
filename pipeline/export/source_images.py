"""The images that rows are about, as the bytes of their files. They are copied and never decoded here."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.export.exported import Selection
from pipeline.runtime.records.origins import Origins, is_whole_file
from pipeline.sources.listing.file_signatures import image_format
from pipeline.storage import AccessError, StorageError, Store

THREADS = 16
NEEDED = ["id", "uri", "version"]
_TASK = "image-classification"
_COUNTED = "frames"  # a column that only rows of images have as a number
_START_BYTES = 512


@dataclass(frozen=True, kw_only=True)
class SourceImages:
    """Reads the image file of a row, if the row is about a whole file.

    Attributes:
        origins: tells where a file is.
        notes: counts images that are not copied, by reason.
    """

    origins: Origins
    notes: Counter[str]
    _stores: dict[str, Store] = field(default_factory=dict)

    @classmethod
    def of(cls, selection: Selection, notes: Counter[str]) -> "SourceImages | None":
        """Return the images of a run; None if its units are not images."""
        schema = selection.schema
        counts = _COUNTED in schema.names and pa.types.is_integer(schema.field(_COUNTED).type)
        if not counts and selection.results.task != _TASK:
            return None
        return cls(origins=Origins.of(selection.results.run), notes=notes)

    def read(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
        """Return the content and the name of the image of each row, with the columns `NEEDED`; None if not copied."""
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(self._read, rows))

    def _read(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        unit, uri = row["id"], row["uri"] or ""
        folder, key = self.origins.place(uri)
        try:
            store = self._stores.setdefault(folder, Store(folder))
            is_image = is_whole_file(unit, uri)
            if is_image is None:
                is_image = _holds_image(store, key)
            if not is_image:
                self.notes["images in archives or tables: not copied"] += 1
                return None
            return {"bytes": store.read(key, version=row["version"]), "path": key.rpartition("/")[2]}
        except (StorageError, AccessError) as error:
            self.notes[f"images that cannot be read again ({type(error).__name__}): not copied"] += 1
            return None


def _holds_image(store: Store, key: str) -> bool:
    """Return whether a file is an image by its content: an id from a column does not tell that it is a table."""
    return image_format(store.read_start(key, _START_BYTES)) is not None
