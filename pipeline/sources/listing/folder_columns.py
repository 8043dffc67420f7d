"""Kept columns of files that have none themselves, as a listing of INPUT finds them: see `folder_values`."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

from pipeline.sources.listing.folder_values import partition_values
from pipeline.sources.listing.glob_pattern import in_hidden
from pipeline.sources.listing.metadata_files import METADATA_NAMES, MetadataRows
from pipeline.sources.source import Source
from pipeline.storage import AccessError, Entry, Reason, Store
from pipeline.storage.left_out import FIRST_NAMES, LeaveOut


class FolderColumns:
    """The kept columns that folders' names and metadata files give to images and videos, and folders' names to texts.

    Attributes:
        unnamed: number of images and videos so far that no metadata file names, whose columns are null.
        first_unnamed: the first keys of them.
    """

    def __init__(self, store: Store, source: Source, *, is_folder: bool = True, is_file: bool = False) -> None:
        """Prepare for a listing of a store.

        Args:
            store: that keys are relative to.
            source: whose kept columns files must have.
            is_folder: the listing has all files of the store, so that a metadata file's other names are missing files.
            is_file: the listing is one file, to which the metadata files of its own folder apply.
        """
        self.store, self.source, self.is_folder, self.is_file = store, source, is_folder, is_file
        self.unnamed, self.first_unnamed = 0, list[str]()
        self._uses_metadata = bool(source.keep) and "text" not in source.media

    @cached_property
    def _rows(self) -> MetadataRows:
        """The rows of all metadata files; at first use, the store is listed."""
        found, partitions = list[Entry](), set[str]()
        for key in METADATA_NAMES if self.is_file else self.store.keys():
            if in_hidden(key):
                continue
            partitions.update(partition_values(key))
            if _is_metadata(key):
                found += [entry for entry in self.store.entries(key) if entry.key == key]
        return MetadataRows(self.store, found, self.source.keep, partitions)

    def lacks(self, entry: Entry) -> bool:
        """Return whether a file without columns cannot have the kept ones: no name of a folder, no metadata file."""
        if not self.source.keep or self.source.holds_columns(entry):
            return False
        return not self._in_names(entry.key) and not (self._uses_metadata and len(self._rows))

    def _in_names(self, key: str) -> bool:
        """Return whether the names of a file's folders give it all kept columns."""
        return partition_values(key).keys() >= set(self.source.keep)

    def without_metadata(self, entries: Iterator[Entry], leave_out: LeaveOut) -> Iterator[Entry]:
        """Yield the entries of the store but for metadata files, which are left out, and mark them as listed."""
        for entry in entries:
            if self._uses_metadata and _is_metadata(entry.key) and entry.key in self._rows.files:
                leave_out(entry.key, Reason.METADATA)
            else:
                self.mark_listed(entry.key)
                yield entry

    def mark_listed(self, key: str) -> None:
        """Note that the store has an entry of this key."""
        if self._uses_metadata and len(self._rows):
            self._rows.mark_listed(key)

    def with_values(self, entries: Iterator[Entry], leave_out: LeaveOut) -> Iterator[Entry]:
        """Yield the entries with the columns that metadata files give them; leave out missing files that these name.

        Raise AccessError if a file cannot have the columns.
        """
        for entry in entries:
            if not self._uses_metadata or self.source.holds_columns(entry):
                yield entry
                continue
            if self.lacks(entry):
                raise self._missing(entry.key)
            kept = self._rows.kept(entry.key)
            if kept is None and not self._in_names(entry.key):
                self.unnamed += 1
                self.first_unnamed += [entry.key] if len(self.first_unnamed) < FIRST_NAMES else []
            yield replace(entry, kept=kept) if kept is not None else entry
        if self._uses_metadata and self.is_folder:
            for key in self._rows.not_listed():
                leave_out(key, Reason.NAMED_ONLY)

    def _missing(self, key: str) -> AccessError:
        names = ", ".join(self.source.keep)
        return AccessError(
            f"{self.store.uri_of(key)}: the file has no columns to keep ({names}): put a metadata.csv with the columns "
            f"file_name, {names} into its folder, or omit keep_columns"
        )


def _is_metadata(key: str) -> bool:
    """Return whether a file has the name of a metadata file."""
    return key.rpartition("/")[2].lower() in METADATA_NAMES
