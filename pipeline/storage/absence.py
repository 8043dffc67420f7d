"""Why nothing is at a local path that a user gave, with the name that is meant."""

import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

from pipeline.formatting import did_you_mean
from pipeline.storage.uris import normalise_uri, split_scheme

MAX_NAMES = 10_000  # of a folder that are compared


def explain_absence(uri: str, others: Iterable[str] = ()) -> str | None:
    """Return why a local path is absent, as a predicate: "does not exist (did you mean photos?)".

    None if it exists, or is a URI of a store. others: names that may be meant, besides those in the nearest folder.
    """
    if split_scheme(path := normalise_uri(uri))[0] is not None or os.path.exists(path):  # noqa: PTH110 - no "//" lost
        return None
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
