"""Tables of Delta Lake, Iceberg and Hudi in INPUT: their folders also hold deleted rows and earlier versions.

Only the metadata of such a table tells which files are its current version, so they are never read as loose files. The
current version of Delta Lake and Iceberg tables is read; Hudi tables are refused.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from pipeline.formatting import counted
from pipeline.sources.listing import delta_tables, iceberg_tables
from pipeline.sources.listing.current_version import REMEDY, VersionReader
from pipeline.sources.listing.outputs_in_input import lookahead, with_following
from pipeline.storage import AccessError, Entry, LeaveOut, Reason, StorageError, Store
from pipeline.storage.schemes import CONDITIONAL_PUT_SCHEMES, is_web
from pipeline.storage.uris import split_scheme

DATA_EXTENSIONS = (".parquet", ".parq", ".pq", ".arrow", ".feather")


class TableFormat(NamedTuple):
    """A table format.

    Attributes:
        name: in messages.
        folder: of the metadata, in the table's folder.
        ending: of the names of some files in it.
        version: finds the current version of a table; None if such tables are refused.
    """

    name: str
    folder: str
    ending: str
    version: VersionReader | None


@dataclass
class Table:
    """A table in INPUT, or around it.

    Attributes:
        format: of the table.
        key: of its folder, with a slash if it is not INPUT itself.
        expected: the keys of its current version that the listing has not reached, once they are known.
    """

    format: TableFormat
    key: str
    expected: set[str] | None = None


_FORMATS = (
    TableFormat(
        "a Delta Lake table",
        delta_tables.LOG,
        "",
        VersionReader(delta_tables.current_files, "deltalake", "delta", "log"),
    ),
    TableFormat(
        "an Iceberg table",
        iceberg_tables.METADATA,
        iceberg_tables.ENDING,
        VersionReader(iceberg_tables.current_files, "pyiceberg", "iceberg", "metadata"),
    ),
    TableFormat("a Hudi table", ".hoodie/", "", None),
)


def without_tables(
    store: Store,
    entries: Iterator[Entry],
    leave_out: LeaveOut,
    is_read: Callable[[str], bool],
    *,
    prefix: str = "",
) -> Iterator[Entry]:
    """Yield the entries but for the metadata of tables and the files that are not of their current version.

    Raise AccessError if a file of a table would be read whose current version is not known, or one of it is missing.

    Args:
        store: of the entries.
        entries: those that start with the prefix, in byte order of keys.
        leave_out: called for the other files of tables.
        is_read: whether a key is one of a file that is read, and that tables of these formats have.
        prefix: of all entries.
    """
    if is_web(store.uri):  # which has no folders to look for
        yield from entries
        return
    folders: list[tuple[str, Table | None]] = []  # the folders above the last key, each with the table it belongs to
    is_checked = False
    for entry, ahead in with_following(entries, lookahead(store)):
        while folders and not entry.key.startswith(folders[-1][0]):
            _check_complete(store, *folders.pop())
        for folder in _new_folders(entry.key, folders):
            table = folders[-1][1] if folders else None
            folders.append((folder, table or _table(store, folder, chain([entry], ahead), prefix)))
        table = folders[-1][1]
        if table is not None and entry.key.startswith(table.key + table.format.folder):
            leave_out(entry.key, Reason.TABLE_METADATA)
            continue
        if is_read(entry.key):
            if table is None and not is_checked:
                _check_above(store)
                is_checked = True
            if table is not None and not _is_current(store, entry.key, table, is_read):
                leave_out(entry.key, Reason.NOT_CURRENT)
                continue
        yield entry
    for each in folders:
        _check_complete(store, *each)


def _is_current(store: Store, key: str, table: Table, is_read: Callable[[str], bool]) -> bool:
    """Return whether a file is part of the current version of a table. Raise AccessError if that is not known."""
    if table.format.version is None:
        raise _refused(store.uri_of(table.key).rstrip("/"), table.format)
    if table.expected is None:
        current = table.format.version.keys(store, table.key, table.format.name)
        table.expected = set(filter(is_read, current))
    is_current = key in table.expected
    table.expected.discard(key)
    return is_current


def _check_complete(store: Store, folder: str, table: Table | None) -> None:
    """Raise AccessError if the listing of a table's folder ends and files of its current version were not in it."""
    if table is not None and table.key == folder and table.expected:
        first, count = min(table.expected), len(table.expected)
        raise AccessError(
            f"{store.uri_of(folder)}: the current version of this table lacks {counted(count, 'file')}, such as "
            f"{first!r}: it is {table.format.name}. Restore what is missing, or repair the table"
        )


def _new_folders(key: str, folders: list[tuple[str, Table | None]]) -> Iterator[str]:
    """Yield the folders of a key that are not among `folders`, from the outermost on; "" is INPUT itself."""
    if not folders:
        yield ""
    end = len(folders[-1][0])
    while (end := key.find("/", end) + 1) > 0:
        yield key[:end]


def _table(store: Store, folder: str, following: Iterable[Entry], prefix: str) -> Table | None:
    """Return the table that a folder is, by the entries that follow or a listing of it; None if it is none."""
    following = list(following)
    for each in _FORMATS:
        wanted = folder + each.folder
        found = _is_among(following, wanted, each.ending) if wanted.startswith(prefix) else None
        if found is None:
            found = any(name.endswith(each.ending) for name in _names(store, wanted))
        if found:
            return Table(each, folder)
    return None


def _is_among(entries: Iterable[Entry], folder: str, ending: str) -> bool | None:
    """Return whether a folder has a file with this ending, by entries in byte order; None if they do not reach it."""
    end = folder.encode("utf-8", "surrogateescape")
    for entry in entries:
        if entry.key.startswith(folder):
            if entry.key.endswith(ending):
                return True
        elif entry.key.encode("utf-8", "surrogateescape") > end:
            return False
    return None


def _names(store: Store, folder: str) -> Iterator[str]:
    """Yield the names of the files in a folder."""
    if split_scheme(store.uri)[0] is not None:
        yield from store.keys(folder)
        return
    with suppress(OSError):
        yield from os.listdir(store.uri_of(folder))  # noqa: PTH208 - a listing of the store reads its whole folder


def _check_above(store: Store) -> None:
    """Raise AccessError if INPUT lies in the folder of a table, as one of its partitions or its `data` does."""
    scheme, path = split_scheme(store.uri)
    if scheme is not None and scheme not in CONDITIONAL_PUT_SCHEMES:
        return
    root, *names = path.split("/")
    above = Store(f"{scheme}://{root}" if scheme is not None else "/")
    for count in range(len(names)):
        folder, table = "".join(f"{name}/" for name in names[:count]), None
        with suppress(AccessError, StorageError):  # of a folder that may not be listed
            table = _table(above, folder, (), "")
        if table is not None:
            uri = above.uri_of(folder).rstrip("/")
            if table.format.version is None:
                raise _refused(uri, table.format)
            raise AccessError(f"{store.uri} is a part of {uri}, {table.format.name}: name the table as INPUT")


def _refused(uri: str, table: TableFormat) -> AccessError:
    return AccessError(
        f"{uri} is {table.name}: its folder also holds deleted rows and earlier versions, so its files are not read. "
        f"{REMEDY}"
    )
