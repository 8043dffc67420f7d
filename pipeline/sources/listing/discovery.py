"""From INPUT as a user writes it to a stream of files: a file, a folder or a glob, on disk or in an object store.

A folder gives its files with one of the source's extensions, at any depth; a file name or a glob gives what it names,
whatever the extension. If something exists under the literal name, the name is not read as a glob.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from pathlib import Path

from pipeline.sources.images.image_sequence import mark_sequences
from pipeline.sources.listing.content_format import ContentEntry, with_content_formats
from pipeline.sources.listing.folder_columns import FolderColumns
from pipeline.sources.listing.glob_pattern import has_wildcard, in_hidden, literal_prefix, matches
from pipeline.sources.listing.outputs_in_input import OWN_FOLDERS, without_outputs
from pipeline.sources.listing.table_formats import DATA_EXTENSIONS, without_tables
from pipeline.sources.source import ColumnMismatch, Holds, NoMediumColumn, Source
from pipeline.storage import AccessError, Denied, Entry, LeftOut, Missing, Reason, Store
from pipeline.storage.absence import explain_absence
from pipeline.storage.left_out import describe
from pipeline.storage.schemes import is_web
from pipeline.storage.uris import split_scheme

_HINTS: dict[str, str] = {
    Reason.UNKNOWN_KIND: "a glob such as *.dat reads files with any extension",
    Reason.OTHER_FORMAT: "a glob such as *.dat reads files with any extension",
    Reason.HIDDEN: "a leading . or a folder's leading _",
    Reason.SINGLE_FRAME: "a frame pair needs two frames in one folder",
    Reason.SAVED_DATASET_FILE: "its data files are called data-*.arrow",
    Reason.NO_COLUMNS: "a metadata.csv next to images or videos, or folders such as lang=de, give them columns",
}


@dataclass(kw_only=True)
class Listing:
    """The files of INPUT.

    Attributes:
        store: that keys are relative to.
        entries: a stream in byte order of keys, to be read once.
        left_out: what is left out so far, with its reason.
        read: number of files so far that are not left out; a pair of frames is two.
        holds_media: whether this is a folder with images or videos that are read, next to which tables that cannot be
            read are left out; at first use, it lists the folder.
        columns: kept columns that files have from their folders, and which files have none of them.
        is_folder: whether INPUT names neither files nor a glob.
        complete: whether the stream has ended, so that nothing is added to these.
    """

    store: Store
    entries: Iterator[Entry]
    columns: FolderColumns
    left_out: LeftOut = field(default_factory=LeftOut)
    read: int = 0
    complete: bool = False
    is_folder: bool = False
    holds_media: Callable[[], bool] = lambda: False

    def leave_out(self, key: str, reason: Reason) -> None:
        """Count an entry as left out that is in `read` already."""
        self.read -= 1
        self.left_out.add(key, reason)

    def leave_out_members(self, archive: str, members: Iterable[tuple[str, str]]) -> None:
        """Count members of an archive, (name, reason), as listed and left out."""
        for name, reason in members:
            self.left_out.add(f"{archive}#{name}", Reason(reason))

    def reason_without_column(self, entry: Entry, error: ColumnMismatch) -> Reason | None:
        """Return why a table is left out that lacks a column; None if it fails the run."""
        if self.is_folder and isinstance(entry, ContentEntry):
            return Reason.CONTENT_TABLE
        return Reason.NO_MEDIUM_COLUMN if isinstance(error, NoMediumColumn) and self.holds_media() else None


def discover(uri: str, source: Source, output: Store | None = None) -> Listing:
    """List what INPUT holds for a source, but for `output` and other OUTPUTs in it.

    Raise AccessError, naming INPUT, if that is nothing or it cannot be read.
    """
    root = Store(uri)
    scheme, path = split_scheme(root.uri)
    if scheme is not None and has_wildcard(path.split("/", 1)[0]):
        raise AccessError(f"{uri}: the name after {scheme}:// must not contain a wildcard")
    named = _file(uri, root, source)
    listing = named or _glob(root, source, output)
    if listing is None:
        listing = _folder(root, source, output)
    else:
        listing.entries = with_content_formats(listing.store, listing.entries, partial(source.is_unknown, named=True))
    entries = _counted(listing, listing.entries)
    entries = mark_sequences(listing.store, entries) if source.pairs else entries
    # A file that is named is read whatever its name; a frame still needs a second one.
    entries = entries if named and not source.pairs else source.inputs(entries, listing.leave_out)
    listing.entries = listing.columns.with_values(entries, listing.left_out.add)
    first = next(listing.entries, None)
    if first is None:
        raise AccessError(_nothing_found(root, source, listing))
    listing.entries = chain([first], listing.entries)
    return listing


def _nothing_found(root: Store, source: Source, listing: Listing) -> str:
    """Return why INPUT has nothing to read."""
    found = [_with_hint(*described) for described in describe(listing.left_out.counts, listing.left_out.first)]
    if found:
        return f"{root.uri}: no {source.name} found; left out: {'; '.join(found)}"
    folder = listing.store.uri
    if absence := explain_absence(folder):
        return f"{root.uri} cannot be read: {folder} {absence}" if folder != root.uri else f"{folder} {absence}"
    if not listing.is_folder:
        return f"nothing in {folder} matches {root.uri.removeprefix(folder).lstrip('/')}"
    if is_web(root.uri):
        return (
            f"{root.uri} does not exist, or is no page with links to files, by which a web server lists a folder: name "
            "one file, or copy the files to a folder or bucket"
        )
    return f"{root.uri} does not exist or is empty"


def _with_hint(reason: str, text: str) -> str:
    return f"{text} ({_HINTS[reason]})" if reason in _HINTS else text


def _counted(listing: Listing, entries: Iterator[Entry]) -> Iterator[Entry]:
    for entry in entries:
        listing.read += 1
        yield entry
    listing.complete = True


def _file(uri: str, root: Store, source: Source) -> Listing | None:
    """Return the one file of that name, its key relative to its folder; None if there is none."""
    folder, _, name = root.uri.rpartition("/")
    if uri.endswith("/") or not name or folder.endswith("/"):  # a folder, by its slash; the root; a bucket
        return None
    store = Store(folder or "/")
    try:
        store.size(name)
    except Missing:
        return None
    except Denied:  # S3's answer for a key that does not exist, without the permission to list all of the bucket
        if next(root.keys(), None) is None:
            raise
        return None
    columns = FolderColumns(store, source, is_folder=False, is_file=True)
    return Listing(store=store, entries=(one for one in store.entries(name) if one.key == name), columns=columns)


def _glob(root: Store, source: Source, output: Store | None) -> Listing | None:
    """Return what a pattern matches; None if no name in the URI is a pattern.

    OUTPUTs of other runs are read if the pattern names one of the folders in them.
    """
    names = root.uri.split("/")
    for at, name in enumerate(names):
        if has_wildcard(name) and not _exists("/".join(names[: at + 1])):
            store, patterns = Store("/".join(names[:at]) or "/"), names[at:]
            return _matching(store, patterns, source, output)
    return None


def _exists(uri: str) -> bool:
    """Return whether a folder exists. In object storage only a folder with a file in it does."""
    is_local = split_scheme(uri)[0] is None
    return Path(uri).is_dir() if is_local else next(Store(uri).keys(), None) is not None


def _matching(store: Store, patterns: list[str], source: Source, output: Store | None) -> Listing:
    """Return the files whose keys match the patterns of their names."""
    left_out, prefix = LeftOut(), literal_prefix("/".join(patterns))
    columns = FolderColumns(store, source, is_folder=False)

    def leave_out(key: str, reason: Reason) -> None:
        if matches(key.split("/"), patterns):
            left_out.add(key, reason)

    def leave_out_of_output(key: str, folder: str) -> None:
        if matches(key.split("/"), patterns):
            left_out.add(key, Reason.OUTPUT, folder)

    def is_data(key: str) -> bool:
        is_data = key.lower().endswith(DATA_EXTENSIONS) or source.is_unknown(key)
        return is_data and matches(key.split("/"), patterns)

    named = not set(OWN_FOLDERS).isdisjoint(patterns)
    listed = store.entries(prefix, leave_out)
    inputs = without_outputs(store, listed, output, leave_out_of_output, named=named, prefix=prefix)
    inputs = without_tables(store, inputs, leave_out, is_data, prefix=prefix)
    taken = (entry for entry in inputs if matches(entry.key.split("/"), patterns))
    entries = columns.without_metadata(taken, left_out.add)
    return Listing(store=store, entries=entries, left_out=left_out, columns=columns)


def _folder(root: Store, source: Source, output: Store | None) -> Listing:
    """Return the visible files in a folder that have an extension of the source, or its format by their content."""
    holds: Holds = cache(partial(_holds, root, output))
    extensions, left_out, columns = tuple(source.extensions), LeftOut(), FolderColumns(root, source)

    def leave_out(key: str, reason: Reason) -> None:
        columns.mark_listed(key)
        left_out.add(key, reason)

    def leave_out_of_output(key: str, folder: str) -> None:
        left_out.add(key, Reason.OUTPUT, folder)

    data = tuple(set(extensions).intersection(DATA_EXTENSIONS))

    def is_data(key: str) -> bool:
        return (key.lower().endswith(data) or source.is_unknown(key)) and not in_hidden(key)

    def visible() -> Iterator[Entry]:
        listed = columns.without_metadata(root.entries(leave_out=leave_out), leave_out)
        listed = without_outputs(root, listed, output, leave_out_of_output)
        for entry in without_tables(root, listed, left_out.add, is_data):
            if not entry.key or entry.key.endswith("/"):  # some stores list it as an object like others
                left_out.add(entry.key or "./", Reason.FOLDER_MARKER)
            elif in_hidden(entry.key):
                left_out.add(entry.key, Reason.HIDDEN)
            else:
                yield entry

    def taken() -> Iterator[Entry]:
        for entry in with_content_formats(root, visible(), source.is_unknown, left_out.add):
            has_extension = entry.key.rpartition("/")[2].lower().endswith(extensions)  # .txt.gz is an extension
            reason = None if has_extension else source.reason_left_out(entry)
            if reason is None and columns.lacks(entry):
                reason = Reason.NO_COLUMNS
            if reason := reason or source.reason_beside(entry, holds):
                left_out.add(entry.key, reason)
            else:
                yield entry

    def holds_media() -> bool:
        if holds(frozenset(source.media_extensions)):
            return True
        return any(source.is_media_file(entry) for entry in _folder(root, source, output).entries)

    return Listing(
        store=root,
        entries=taken(),
        left_out=left_out,
        is_folder=True,
        holds_media=cache(holds_media),
        columns=columns,
    )


def _holds(root: Store, output: Store | None, extensions: frozenset[str], but: re.Pattern[str] | None = None) -> bool:
    """Return whether a folder holds a visible file with one of the extensions, see `Holds`."""
    endings = tuple(extensions)
    listed = (Entry(key=key, size=0, version="") for key in root.keys(""))
    return bool(endings) and any(
        entry.key.lower().endswith(endings)
        and not in_hidden(entry.key)
        and not (but and but.match(entry.key.rpartition("/")[2]))
        for entry in without_outputs(root, listed, output, lambda *_: None)
    )
