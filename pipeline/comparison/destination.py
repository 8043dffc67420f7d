"""DEST of a comparison: only files of an earlier comparison are replaced."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.comparison.comparison import Comparison
from pipeline.results import Results
from pipeline.runtime.errors import UsageError
from pipeline.storage import Missing, Store
from pipeline.storage.schemes import require_writable
from pipeline.storage.uris import is_inside, normalise_uri

TABLE = "differences.parquet"
_MARKER = b"perceiver-pipeline comparison"  # in the metadata of the table


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
        """Raise UsageError if there is a file that is not of a comparison."""
        if not self._is_free(TABLE):
            raise UsageError(
                f"{self.store.uri_of(TABLE)} exists and is not of a comparison: move it away, or name another DEST"
            )

    def write(self, found: Comparison) -> None:
        """Write the files in place of those of an earlier comparison."""
        self.check()
        file = io.BytesIO()
        table = found.differences.replace_schema_metadata({_MARKER: f"{found.a.output} and {found.b.output}"})
        pq.write_table(table, file, compression="zstd")
        self.store.put(TABLE, file.getvalue())

    def _is_free(self, key: str) -> bool:
        """Return whether there is no such table, or one of an earlier comparison."""
        try:
            self.store.size(key)
            with self.store.open(key) as file:
                return _MARKER in (pq.read_schema(file).metadata or {})
        except Missing:
            return True
        except pa.ArrowInvalid:
            return False
