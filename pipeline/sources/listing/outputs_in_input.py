"""OUTPUTs of runs inside INPUT: their files are predictions, not inputs, and are left out of a listing.

A folder is an OUTPUT if it holds `_run/run.json`. The OUTPUT of the run itself is one before that file exists; on a
local disk it is recognized by its inode, whatever path, link or mount leads to it.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TypeAlias

from pipeline.storage import Entry, Missing, Store
from pipeline.storage.uris import split_scheme

RUN_FILE = "_run/run.json"
OWN_FOLDERS = ("predictions", "quarantine", "_run")
_AHEAD = 1000  # entries of an object store, as many as a page of its listing
_AZURE = frozenset({"az", "abfs", "abfss"})

Location: TypeAlias = tuple[object, ...]


def location(uri: str) -> Location:
    """Return what is equal for all spellings of a folder: device and inode on a local disk, scheme and names elsewhere.

    A local folder that does not exist is located by its path without links.
    """
    scheme, rest = split_scheme(uri)
    if scheme is None:
        try:
            status = os.stat(uri)  # noqa: PTH116 - once per folder
        except OSError:
            return ("path", os.path.realpath(uri))
        return ("inode", status.st_dev, status.st_ino)
    bucket, *names = rest.rstrip("/").split("/")
    if scheme in _AZURE:  # with and without the account
        scheme, bucket = "az", bucket.partition("@")[0]
    return (scheme, bucket, *names)


def without_outputs(
    store: Store,
    entries: Iterator[Entry],
    output: Store | None,
    leave_out: Callable[[str, str], None],
    *,
    named: bool = False,
    prefix: str = "",
) -> Iterator[Entry]:
    """Yield the entries that are in no OUTPUT; call `leave_out` with the keys of the others and their OUTPUT.

    entries: all that start with the prefix, in byte order of keys. output: of the run that reads the listing. named:
    the user names folders of OUTPUTs, so that only this one is left out.
    """
    own = set() if output is None else {location(output.uri), *map(location, own_folders(output))}
    folders: list[tuple[str, bool]] = []  # the folders above the last key, each with whether it is an OUTPUT
    for entry, ahead in with_following(entries, lookahead(store)):
        while folders and not entry.key.startswith(folders[-1][0]):
            folders.pop()
        while (end := entry.key.find("/", len(folders[-1][0]) if folders else 0)) >= 0:
            folder, inside = entry.key[: end + 1], bool(folders) and folders[-1][1]
            is_output = inside or _is_one_of(store.uri_of(folder[:-1]), own)
            following = chain([entry], ahead) if (folder + RUN_FILE).startswith(prefix) else ()
            folders.append((folder, is_output or (not named and _holds_run(store, folder, following))))
        if folders and folders[-1][1]:
            leave_out(entry.key, next(folder for folder, is_output in folders if is_output))
        else:
            yield entry


def _is_one_of(uri: str, locations: set[Location]) -> bool:
    """Return whether a folder is at one of the locations, some of which may not have existed when they were made."""
    return location(uri) in locations or (
        split_scheme(uri)[0] is None
        and any(one[0] == "path" for one in locations)
        and ("path", os.path.realpath(uri)) in locations
    )


def own_folders(output: Store) -> list[str]:
    """Return the URIs of the folders in OUTPUT that a run writes to."""
    return [output.uri_of(name) for name in OWN_FOLDERS]


def lookahead(store: Store) -> int:
    """Return how many entries to list ahead, where that costs no request per entry."""
    return 0 if split_scheme(store.uri)[0] in (None, "http", "https") else _AHEAD


def with_following(entries: Iterator[Entry], count: int) -> Iterator[tuple[Entry, deque[Entry]]]:
    """Yield each entry with up to `count` of those that follow."""
    ahead: deque[Entry] = deque(islice(entries, count))
    for entry in entries:
        ahead.append(entry)
        yield ahead.popleft(), ahead
    while ahead:
        yield ahead.popleft(), ahead


def _holds_run(store: Store, folder: str, entries: Iterable[Entry]) -> bool:
    """Return whether a folder holds run.json: by its first entries and those that follow, if they tell."""
    wanted = folder + RUN_FILE
    key = wanted.encode("utf-8", "surrogateescape")
    for entry in entries:
        if entry.key == wanted:
            return True
        if entry.key.encode("utf-8", "surrogateescape") > key:
            return False
    try:
        store.size(wanted)
    except Missing:
        return False
    return True
