"""Metadata files next to images and videos, as the image folders of `datasets` have them: a row names its files.

`metadata.csv`, `metadata.jsonl` and `metadata.parquet` apply to the files of their folder and of the folders below it.
The columns that name files are `file_name`, `file_names`, and all that end with `_file_name` or `_file_names`.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pipeline.media import BadMedium
from pipeline.sources.csv_source import CSV
from pipeline.sources.parquet_source import PARQUET, ParquetTable
from pipeline.sources.record_source import RecordSource
from pipeline.sources.records.record_media import key_of
from pipeline.sources.records.record_reader import DEFAULT_COLUMN, Record, RecordRequest, as_text
from pipeline.sources.source import Piece, SourceOptions, missing_column
from pipeline.sources.text_source import JSONL
from pipeline.storage import AccessError, Entry, StorageError, Store

_SOURCES: Mapping[str, RecordSource] = {".csv": CSV, ".jsonl": JSONL, ".parquet": PARQUET}
METADATA_NAMES = frozenset(f"metadata{extension}" for extension in _SOURCES)


class MetadataRows:
    """The kept columns of all files that metadata files name, in a temporary database on disk.

    Attributes:
        files: keys of the metadata files.
    """

    def __init__(self, store: Store, entries: Sequence[Entry], keep: Sequence[str], optional: Collection[str]) -> None:
        """Read metadata files. Raise AccessError, naming the file, if one cannot be read or is wrong.

        Args:
            store: that the keys are relative to.
            entries: metadata files, and tables of that name that hold the images themselves.
            keep: columns to read.
            optional: columns that a metadata file may lack, because folders' names give them.
        """
        self.files: list[str] = []
        # Without a name it is a file that SQLite deletes; a listing may be consumed by another thread.
        self._rows = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._rows.execute("PRAGMA journal_mode = OFF")
        self._rows.execute("CREATE TABLE rows (key BLOB PRIMARY KEY, kept TEXT, file INT, listed INT) WITHOUT ROWID")
        for entry in sorted(entries, key=lambda entry: entry.key.count("/")):  # of two files, the nearest one counts
            self._read(store, entry, keep, optional)

    def __len__(self) -> int:
        return len(self.files)

    def kept(self, key: str) -> str | None:
        """Return the kept columns of a file as JSON, None if no metadata file names it."""
        row = self._rows.execute("SELECT kept FROM rows WHERE key = ?", (_bytes(key),)).fetchone()
        return None if row is None else str(row[0])

    def mark_listed(self, key: str) -> None:
        """Note that INPUT has an entry of this key."""
        self._rows.execute("UPDATE rows SET listed = 1 WHERE key = ?", (_bytes(key),))

    def not_listed(self) -> Iterator[str]:
        """Yield the keys that metadata files name and that were not marked, in byte order."""
        for (key,) in self._rows.execute("SELECT key FROM rows WHERE NOT listed ORDER BY key"):
            yield key.decode("utf-8", "surrogateescape")

    def _read(self, store: Store, entry: Entry, keep: Sequence[str], optional: Collection[str]) -> None:
        """Read one metadata file, unless it is a table of images."""
        uri, first = store.uri_of(entry.key), True
        for place, values in _rows_of(store, entry, keep, optional):
            names = [name for name in values if _names_files(name)]
            if first and not names:
                if DEFAULT_COLUMN["image"][0] in values:
                    return
                raise missing_column(uri, "file_name", values)
            if first:
                self.files.append(entry.key)
            first = False
            kept = json.dumps({name: _text(values[name]) for name in keep if name in values}, ensure_ascii=False)
            row = f"{uri}#{place}"
            for path in _paths(row, {name: values[name] for name in names}):
                try:
                    key = key_of(path, store, entry.key)
                except BadMedium as error:
                    raise AccessError(f"{row}: {error}") from None
                self._add(key, kept, row)

    def _add(self, key: str, kept: str, row: str) -> None:
        """Add a row. Raise AccessError if this folder's metadata give the file other values already."""
        number = len(self.files) - 1
        try:
            self._rows.execute("INSERT INTO rows VALUES (?, ?, ?, 0)", (_bytes(key), kept, number))
        except sqlite3.IntegrityError:
            query = "SELECT kept, file FROM rows WHERE key = ?"
            before, other = self._rows.execute(query, (_bytes(key),)).fetchone()
            if _folder(self.files[other]) == _folder(self.files[number]) and before != kept:
                raise AccessError(
                    f"{row}: {key!r} has other kept columns in an earlier row: {before}, here {kept}"
                ) from None
            self._rows.execute("UPDATE rows SET kept = ?, file = ? WHERE key = ?", (kept, number, _bytes(key)))


def _rows_of(
    store: Store, entry: Entry, keep: Sequence[str], optional: Collection[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, values) of each row. Raise AccessError if the file or a row cannot be read, or lacks a column."""
    uri, extension = store.uri_of(entry.key), f".{entry.key.rpartition('.')[2].lower()}"
    reader = _SOURCES[extension].reader
    outside = dict.fromkeys(name for name in keep if name in optional)
    try:
        files = _file_columns(store, entry) if extension == ".parquet" else ()
        options = SourceOptions(keep=tuple(dict.fromkeys((*keep, *files))))
        request = RecordRequest(options=options, medium_columns=(), outside=outside)
        reader.kept(store, entry, request)  # raises if a column is missing
        for record in reader.records(store, Piece.of(entry, begin=0), request):
            yield record.place, _values(f"{uri}#{record.place}", record)
    except (AccessError, StorageError):
        raise
    except Exception as error:  # noqa: BLE001  parsers of untrusted bytes raise anything
        raise AccessError(f"{uri}: the metadata file cannot be read: {error or type(error).__name__}") from None


def _values(row: str, record: Record) -> Mapping[str, Any]:
    """Return the values of a row. Raise AccessError if they cannot be read."""
    if isinstance(record.values, Exception):
        raise AccessError(f"{row}: {record.values}")
    return record.values


def _file_columns(store: Store, entry: Entry) -> tuple[str, ...]:
    """Return the columns of a Parquet file that name files, else its column of images. AccessError if there is none."""
    with store.open(entry.key, version=entry.version, size=entry.size) as file:
        names = ParquetTable(file, entry.size).schema.names
    found = tuple(filter(_names_files, names)) or tuple(set(DEFAULT_COLUMN["image"]) & set(names))
    if not found:
        raise missing_column(store.uri_of(entry.key), "file_name", names)
    return found


def _names_files(column: str) -> bool:
    return column in ("file_name", "file_names") or column.endswith(("_file_name", "_file_names"))


def _paths(row: str, columns: Mapping[str, Any]) -> list[str]:
    """Return the paths in a row. Raise AccessError if there is none, or a value is neither text nor a list of it."""
    found: list[str] = []
    for column, value in columns.items():
        paths = value if isinstance(value, list) else [] if value in (None, "") else [value]
        if not all(isinstance(path, str) and path for path in paths):
            raise AccessError(f"{row}: column {column!r} must hold names of files, got {value!r}")
        found += paths
    if not found:
        raise AccessError(f"{row}: the row names no file: {' and '.join(columns)} is empty")
    return found


def _text(value: Any) -> str | None:
    """Return a value as the kept column stores it: text as it is, anything else as JSON."""
    if value is None or isinstance(value, str | bytes):
        return as_text(value)
    return as_text(json.dumps(value, ensure_ascii=False, default=str))


def _folder(key: str) -> str:
    return key.rpartition("/")[0]


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
