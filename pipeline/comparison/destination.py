"""DEST of a comparison: only files of an earlier comparison are replaced."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.report.marker import read_marked
from pipeline.results import Results
from pipeline.runtime.errors import UsageError
from pipeline.storage import Missing, Store
from pipeline.storage.schemes import require_writable
from pipeline.storage.uris import is_inside, normalise_uri, split_scheme

PAGE = "comparison.html"
TABLE = "differences.parquet"
MARKER = "perceiver-pipeline comparison"
"""In the head of the page, and in the metadata of the table."""


@dataclass(frozen=True)
class Destination:
    """A folder, local or in an object store."""

    store: Store

    @classmethod
    def at(cls, uri: str, runs: Sequence[Results]) -> Self:
        """Return the destination of a path or URI.

        UsageError if it lies in a run or its INPUT, AccessError if it is read-only.
        """
        place = normalise_uri(uri)
        require_writable(place)
        for results in runs:
            if is_inside(place, results.store.uri):
                raise UsageError(
                    f"{place} lies in {results.store.uri}, which holds a run and nothing else: name another"
                )
            if results.run.input and is_inside(place, results.run.input):
                raise UsageError(
                    f"{place} lies in INPUT ({results.run.input}), where the next run would read it: name another"
                )
        return cls(Store(place))

    def check(self) -> None:
        """Raise UsageError if there is a file that is not of a comparison, AccessError if nothing can be written."""
        if split_scheme(self.store.uri)[0] is None and Path(self.store.uri).is_file():
            raise UsageError(f"{self.store.uri} is a file: DEST must be a folder or URI")
        for key, is_free in ((TABLE, self._is_table()), (PAGE, read_marked(self.store, PAGE, MARKER) != "")):
            if not is_free:
                raise UsageError(
                    f"{self.store.uri_of(key)} exists and is not of a comparison: move it away, or name another DEST"
                )
        self.store.check_writable()

    def write(self, table: pa.Table, page: str) -> None:
        """Write the files in place of those of an earlier comparison."""
        file = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({MARKER: "1"}), file, compression="zstd")
        self.store.put(TABLE, file.getvalue())
        self.store.put(PAGE, page.encode())
        self.store.remove_empty_folders()

    def _is_table(self) -> bool:
        """Return whether there is no table, or one of an earlier comparison."""
        try:
            self.store.size(TABLE)
            with self.store.open(TABLE) as file:
                return MARKER.encode() in (pq.read_schema(file).metadata or {})
        except Missing:
            return True
        except pa.ArrowInvalid:
            return False
