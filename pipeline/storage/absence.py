"""Why a local path that a user gave cannot be read, with the name that is meant."""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

from pipeline.formatting import did_you_mean
from pipeline.storage.local_file import KINDS
from pipeline.storage.uris import normalise_uri, split_scheme

MAX_NAMES = 10_000  # of a folder that are compared


def explain_absence(uri: str, others: Iterable[str] = ()) -> str | None:
    """Return why a local path cannot be read, as a predicate: "does not exist (did you mean photos?)".

    None if it is a file or a folder, or a URI of a store. others: names that may be meant, besides those in the nearest
    folder.
    """
    if split_scheme(path := normalise_uri(uri))[0] is not None:
        return None
    if os.path.exists(path):  # noqa: PTH110 - no "//" lost
        return _explain_kind(stat.S_IFMT(os.stat(path).st_mode))  # noqa: PTH116
    if os.path.islink(path):  # noqa: PTH114
        return f"is a link to {os.readlink(path)}, which does not exist"  # noqa: PTH115
    folder, name = os.path.split(path)
    while not os.path.exists(folder):  # noqa: PTH110
        folder, name = os.path.split(folder)
    names: list[str] = []
    with suppress(OSError):  # not a folder, or not readable
        names = [entry.name for entry in islice(os.scandir(folder), MAX_NAMES)]
    meant = did_you_mean(name, [*names, *others])
    is_parent = folder == os.path.dirname(path)  # noqa: PTH120
    return f"does not exist{meant}" if meant and is_parent else f"does not exist: {folder} has no {name!r}{meant}"


def _explain_kind(kind: int) -> str | None:
    """Return what a path is that is neither a file nor a folder."""
    is_read = kind in (stat.S_IFREG, stat.S_IFDIR) or kind not in KINDS
    return None if is_read else f"is {KINDS[kind]}: only regular files and folders are read"
