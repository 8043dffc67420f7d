"""A file that a user names by a path or URI."""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipeline.media import BadMedium
from pipeline.sources.image_source import MAX_FILE_BYTES
from pipeline.storage import AccessError, Store, is_access_lost
from pipeline.storage.uris import normalise_uri


@dataclass(frozen=True)
class FileUri:
    """A file by its URI or absolute path."""

    uri: str

    @classmethod
    def of(cls, path: Any) -> "FileUri":
        """Return the file of a path or URI. Raise BadMedium if it names none."""
        try:
            return cls(normalise_uri(os.fspath(path)))
        except AccessError as error:
            raise BadMedium(str(error)) from None

    @property
    def store(self) -> Store:
        """The folder of the file."""
        return _store(self.uri.rpartition("/")[0] or "/")

    @property
    def name(self) -> str:
        """Key of the file in its folder."""
        return self.uri.rpartition("/")[2]

    def read(self) -> bytes:
        """Read the whole file. Raise BadMedium if access is denied or it is too large, or the store's error."""
        try:
            if (size := self.store.size(self.name)) > MAX_FILE_BYTES:
                raise BadMedium(f"the file has {size:,} bytes, at most {MAX_FILE_BYTES:,} are read")
            return self.store.read(self.name)
        except AccessError as error:
            raise as_fault_of_item(error) from None


def as_fault_of_item(error: AccessError) -> Exception:
    """Return an error that costs one item for lost access to its file, which ends a run: another item has another."""
    return BadMedium(str(error)) if is_access_lost(error) else error


@lru_cache(maxsize=64)
def _store(folder: str) -> Store:
    return Store(folder)
