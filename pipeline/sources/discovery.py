"""INPUT, as a user writes it, to a stream of files: a file, a folder or a glob, local or in any store.

A folder offers its files with one of the source's extensions, at any depth; a file or a glob takes what it names,
whatever the extension. What is there under the very name wins over the same name read as a glob.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from pipeline.sources.glob_pattern import Glob, has_wildcard, in_hidden
from pipeline.sources.source import Source
from pipeline.storage import AccessError, Entry, Missing, Store, redact
from pipeline.storage.uris import split_scheme


@dataclass(kw_only=True)
class Listing:
    """What INPUT holds. `entries` is a stream in byte order of keys, to be read once; keys are relative to `store`.

    skipped: how many files were left out so far, under "extension" and "hidden"; complete when the stream has ended.
    """

    store: Store
    entries: Iterator[Entry]
    skipped: Counter[str] = field(default_factory=Counter)


_UNFIT = "but a pair is two frames in one folder, and of a saved data set only data-*.arrow is read"


def discover(uri: str, source: Source) -> Listing:
    """What an INPUT holds for a source. AccessError, naming it, where that is nothing or it cannot be read."""
    whole = Store(uri)
    scheme, path = split_scheme(whole.uri)
    if scheme is not None and has_wildcard(path.split("/", 1)[0]):
        raise AccessError(f"{redact(uri)}: the name after {scheme}:// cannot be a pattern")
    found = _file(uri, whole) or _glob(whole) or _folder(whole, source)
    listed = Counter[str]()
    found.entries = source.inputs(_counted(found.entries, listed))
    first = next(found.entries, None)
    if first is None:
        reasons = f"{listed['files']:,} files there, {_UNFIT}" if listed else _reasons(found.skipped)
        raise AccessError(f"{redact(uri)}: no {source.name} there; {reasons}")
    found.entries = chain([first], found.entries)
    return found


def _counted(entries: Iterator[Entry], listed: Counter[str]) -> Iterator[Entry]:
    for entry in entries:
        listed["files"] += 1
        yield entry


def _file(uri: str, whole: Store) -> Listing | None:
    """The one file of that name, its key relative to its folder; None where there is none."""
    folder, _, name = whole.uri.rpartition("/")
    if uri.endswith("/") or not name or folder.endswith("/"):  # a folder, by its slash; the root; a bucket
        return None
    store = Store(folder or "/")
    try:
        store.size(name)
    except Missing:
        return None
    return Listing(store=store, entries=(entry for entry in store.entries(name) if entry.key == name))


def _glob(whole: Store) -> Listing | None:
    """What a pattern takes; None where no name in the URI is one."""
    names = whole.uri.split("/")
    first = next((at for at, name in enumerate(names) if has_wildcard(name) and not _is_folder(names[: at + 1])), None)
    if first is None:
        return None
    glob = Glob.parse(names, first)
    store = Store(glob.folder or "/")
    return Listing(store=store, entries=(entry for entry in store.entries(glob.prefix) if glob.matches(entry.key)))


def _is_folder(names: list[str]) -> bool:
    """Whether something lies in the folder of that very name."""
    return next(Store("/".join(names)).keys(), None) is not None


def _folder(whole: Store, source: Source) -> Listing:
    """The files below a folder that the source knows by their extension, the hidden ones left out."""
    found = Listing(store=whole, entries=iter(()))
    endings = tuple(source.extensions)
    found.entries = (entry for entry in whole.entries() if _offered(entry.key, endings, found.skipped))
    return found


def _offered(key: str, endings: tuple[str, ...], skipped: Counter[str]) -> bool:
    """Whether a folder offers the file to a source of these extensions; counts it where it does not."""
    if key.endswith("/"):  # a folder's own marker, which some stores list as an object
        return False
    if in_hidden(key):
        skipped["hidden"] += 1
        return False
    if not key.rpartition("/")[2].lower().endswith(endings):  # .txt.gz is one
        skipped["extension"] += 1
        return False
    return True


def _reasons(skipped: Counter[str]) -> str:
    """Why nothing was found, for a person."""
    if not skipped:
        return "nothing of that name, or nothing in it"
    reasons = {
        "extension": "of another extension (a glob such as *.dat takes files by any name)",
        "hidden": "hidden (a leading . or a folder's leading _)",
    }
    return "skipped " + ", ".join(f"{skipped[reason]:,} {text}" for reason, text in reasons.items() if skipped[reason])
