"""From INPUT as a user writes it to a stream of files: a file, a folder or a glob, on disk or in an object store.

A folder gives its files with one of the source's extensions, at any depth; a file name or a glob gives what it names,
whatever the extension. If something exists under the literal name, the name is not read as a glob.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from pipeline.sources.glob_pattern import has_wildcard, in_hidden, literal_prefix, matches
from pipeline.sources.image_sequence import mark_sequences
from pipeline.sources.source import Source
from pipeline.storage import AccessError, Denied, Entry, Missing, Store, redact
from pipeline.storage.uris import split_scheme

_SKIPPED = {
    "extension": "files with another extension (a glob such as *.dat reads files with any extension)",
    "hidden": "hidden files (a leading . or a folder's leading _)",
}


@dataclass(kw_only=True)
class Listing:
    """The files of INPUT.

    Attributes:
        store: that keys are relative to.
        entries: a stream in byte order of keys, to be read once.
        skipped: number of files left out so far, by "extension" and "hidden"; complete when the stream has ended.
    """

    store: Store
    entries: Iterator[Entry]
    skipped: Counter[str] = field(default_factory=Counter)


def discover(uri: str, source: Source) -> Listing:
    """List what INPUT holds for a source. Raise AccessError, naming it, if that is nothing or it cannot be read."""
    root = Store(uri)
    scheme, path = split_scheme(root.uri)
    if scheme is not None and has_wildcard(path.split("/", 1)[0]):
        raise AccessError(f"{redact(uri)}: the name after {scheme}:// must not contain a wildcard")
    listing = _file(uri, root) or _glob(root) or _folder(root, source)
    listed = Counter[str]()
    entries = _counted(listing.entries, listed)
    listing.entries = source.inputs(mark_sequences(listing.store, entries) if source.pairs else entries)
    first = next(listing.entries, None)
    if first is None:
        if listed["files"]:
            reason = (
                f"{listed['files']:,} files exist, but a frame pair needs two frames in one folder, and only the "
                "data-*.arrow files of a saved dataset are read"
            )
        else:
            skipped = [f"{listing.skipped[name]:,} {text}" for name, text in _SKIPPED.items() if listing.skipped[name]]
            reason = f"skipped {', '.join(skipped)}" if skipped else "the name does not exist or is empty"
        raise AccessError(f"{redact(uri)}: no {source.name} found; {reason}")
    listing.entries = chain([first], listing.entries)
    return listing


def _counted(entries: Iterator[Entry], listed: Counter[str]) -> Iterator[Entry]:
    for entry in entries:
        listed["files"] += 1
        yield entry


def _file(uri: str, root: Store) -> Listing | None:
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
    return Listing(store=store, entries=(entry for entry in store.entries(name) if entry.key == name))


def _glob(root: Store) -> Listing | None:
    """Return what a pattern matches; None if no name in the URI is a pattern."""
    names = root.uri.split("/")
    for at, name in enumerate(names):
        if has_wildcard(name) and next(Store("/".join(names[: at + 1])).keys(), None) is None:
            store, patterns = Store("/".join(names[:at]) or "/"), names[at:]
            entries = store.entries(literal_prefix("/".join(patterns)))
            return Listing(store=store, entries=(e for e in entries if matches(e.key.split("/"), patterns)))
    return None


def _folder(root: Store, source: Source) -> Listing:
    """Return the visible files in a folder that have an extension of the source."""
    extensions, skipped = tuple(source.extensions), Counter[str]()

    def taken() -> Iterator[Entry]:
        for entry in root.entries():
            if entry.key.endswith("/"):  # a folder marker, which some stores list as an object
                continue
            if in_hidden(entry.key):
                skipped["hidden"] += 1
            elif entry.key.rpartition("/")[2].lower().endswith(extensions):  # of a whole name: .txt.gz is an extension
                yield entry
            else:
                skipped["extension"] += 1

    return Listing(store=root, entries=taken(), skipped=skipped)
