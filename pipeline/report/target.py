"""Where a report is written: OUTPUT/report.html, or a file that the user names. Only an earlier report is replaced."""

from dataclasses import dataclass
from typing import Self

from pipeline.report.marker import read_marked
from pipeline.runtime.errors import UsageError
from pipeline.storage import Store
from pipeline.storage.schemes import require_writable
from pipeline.storage.uris import normalise_uri

REPORT = "report.html"


@dataclass(frozen=True)
class Target:
    """A file in a folder, local or in an object store."""

    store: Store
    key: str = REPORT

    @classmethod
    def at(cls, uri: str) -> Self:
        """Return the target of a path or URI. UsageError if it names no file, AccessError if it is read-only."""
        folder, _, name = normalise_uri(uri).rpartition("/")
        if not name or folder.endswith("/") or uri.endswith("/"):
            raise UsageError(f"{uri} is not the path of a file: name one, such as {REPORT}")
        require_writable(folder)
        return cls(Store(folder or "/"), name)

    @property
    def uri(self) -> str:
        """The URI of the file."""
        return self.store.uri_of(self.key)

    def check(self) -> None:
        """Raise UsageError if there is a file that is not a report."""
        if read_marked(self.store, self.key) == "":
            raise UsageError(
                f"{self.uri} exists and is not a report: move it away, or write the report --to another file"
            )

    def has_marker(self, marker: str) -> bool:
        """Return whether the file is a report with this marker."""
        return f'"{marker}"' in (read_marked(self.store, self.key) or "")

    def write(self, page: str) -> None:
        """Write a page in place of an earlier one; a reader sees either of them. UsageError as in `check`."""
        self.check()
        self.store.put(self.key, page.encode())
