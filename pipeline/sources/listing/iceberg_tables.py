"""The data files of the current version of an Iceberg table, as `pyiceberg` finds them in the table's metadata.

The metadata is read by our own store, so that credentials, retries and redaction are those of all reads. The files are
then read like other Parquet files.
"""

import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pipeline.sources.listing.current_version import Unsupported
from pipeline.storage import Store

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table.metadata import TableMetadata

METADATA, ENDING = "metadata/", ".metadata.json"
_NUMBER = re.compile(r"v?(\d+)\b[^/]*")  # of a metadata file: v7.metadata.json, 00007-<uuid>.metadata.json
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/*")


def current_files(store: Store, table: str) -> Iterator[str]:
    """Yield the keys of the files that make up the current version of a table: that of its newest metadata file.

    Raise Unsupported if the rows of the files are not those of the table: it has row-level deletes, columns with other
    names, or other formats. Raise ImportError without `pyiceberg`, and ValueError or what that raises for metadata that
    cannot be read.

    Args:
        store: that the keys are relative to.
        table: key of the table's folder with a slash, "" for the store itself.
    """
    from pyiceberg.serializers import FromInputFile

    metadata = FromInputFile.table_metadata(_File(store, _newest_metadata(store, table)))
    files = _Files(store, table, metadata.location)
    found = list(_data_files(metadata, files))
    if reason := _obstacle(metadata.schemas, found):
        raise Unsupported(reason)
    for file in found:
        yield files.key_of(file.file_path)


def _newest_metadata(store: Store, table: str) -> str:
    """Return the key of the metadata file with the greatest number. Raise ValueError if two of them have it."""
    folder = table + METADATA
    numbered: dict[int, list[str]] = defaultdict(list)
    for key in store.keys(folder):
        if key.endswith(ENDING) and (match := _NUMBER.fullmatch(key.removeprefix(folder))):
            numbered[int(match[1])].append(key)
    if not numbered:
        raise ValueError("no metadata file has a number in its name")
    newest = numbered[max(numbered)]
    if len(newest) > 1:
        raise ValueError(f"{' and '.join(sorted(newest))} have the same number: only a catalog knows which is current")
    return newest[0]


def _data_files(metadata: "TableMetadata", files: "_Files") -> Iterator["DataFile"]:
    """Yield the files of the current snapshot, of data and of deletes."""
    from pyiceberg.manifest import read_manifest_list

    if (snapshot := metadata.current_snapshot()) is None:
        return
    for manifest in read_manifest_list(files.new_input(snapshot.manifest_list)):
        for entry in manifest.fetch_manifest_entry(files, discard_deleted=True):
            yield entry.data_file


def _obstacle(schemas: "Iterable[Schema]", files: "Iterable[DataFile]") -> str | None:
    """Return what makes the rows of the files other than those of the table, None if they are the same."""
    from pyiceberg.manifest import DataFileContent, FileFormat

    for file in files:
        if file.content != DataFileContent.DATA:
            return "deletes of single rows"
        if file.file_format != FileFormat.PARQUET:
            return f"files in the format {file.file_format.value}"
    names, ids = defaultdict(set), defaultdict(set)
    for schema in schemas:
        for name in schema.column_names:
            number = schema.find_field(name).field_id
            names[number].add(name)
            ids[name].add(number)
    if any(len(each) > 1 for each in (*names.values(), *ids.values())):
        return "columns that have other names in some of its files"
    return None


class _File:
    """A file of a store, as `pyiceberg` reads it."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key, self.location = store, key, key

    def open(self, seekable: bool = True) -> Any:  # noqa: ARG002  as the library calls it
        """Return the content."""
        return io.BytesIO(self._store.read(self._key))


class _Files:
    """The files of a table, which its metadata names by URIs: those in its folder, wherever that was written."""

    def __init__(self, store: Store, table: str, location: str) -> None:
        self._store, self._table, self._location = store, table, _path(location).rstrip("/") + "/"

    def new_input(self, location: str) -> Any:
        """Return the file at a URI."""
        return _File(self._store, self.key_of(location))

    def key_of(self, location: str) -> str:
        """Return the key of the file at a URI. Raise ValueError if it is not in the table's folder."""
        path = _path(location)
        if not path.startswith(self._location) or ".." in path.split("/"):
            raise ValueError(f"{location} is not in the folder of the table")
        return self._table + path.removeprefix(self._location)


def _path(uri: str) -> str:
    """Return a URI without its scheme, which writers spell differently, such as s3 and s3a."""
    return _SCHEME.sub("/", uri, count=1)
