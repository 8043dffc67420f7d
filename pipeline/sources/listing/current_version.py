"""The current version of a table whose metadata a package of its own reads: one error for whatever prevents that."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from pipeline.storage import AccessError, StorageError, Store

REMEDY = "Write its current version as Parquet files and name these as INPUT, or name the other files by a glob"


class Unsupported(Exception):  # noqa: N818
    """The rows of a table are not those of its files; the message says what it has."""


class VersionReader(NamedTuple):
    """How the current version of the tables of one format is found.

    Attributes:
        current_files: yields the keys of the files, from a store and the key of the table's folder with a slash.
        package: that it needs.
        extra: of this project, which installs the package.
        metadata: what the format calls its metadata.
    """

    current_files: Callable[[Store, str], Iterable[str]]
    package: str
    extra: str
    metadata: str

    def keys(self, store: Store, table: str, kind: str) -> set[str]:
        """Return the keys of the files of a table of that kind, such as "an Iceberg table".

        Raise AccessError, naming the table, if the package is not installed, the metadata cannot be read, or the rows
        of the files are not those of the table.
        """
        uri = store.uri_of(table).rstrip("/")
        try:
            return set(self.current_files(store, table))
        except (AccessError, StorageError):
            raise
        except ImportError:
            raise AccessError(
                f"{uri} is {kind}, which is read with the package {self.package}: pip install "
                f"'perceiver-pipeline[{self.extra}]'. {REMEDY}"
            ) from None
        except Unsupported as reason:
            raise AccessError(f"{uri} is {kind} with {reason}, which are not supported. {REMEDY}") from None
        except Exception as error:  # noqa: BLE001  packages have errors of several kinds, and metadata is untrusted
            cause = next(iter(str(error).splitlines()), type(error).__name__)  # a backtrace may follow
            the_table = f"the {kind.partition(' ')[2]}"
            raise AccessError(f"{uri}: the {self.metadata} of {the_table} cannot be read: {cause}. {REMEDY}") from None
