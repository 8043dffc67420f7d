"""Which keys a glob matches: `*`, `?` and `[…]` within a name, `**` for any number of folders."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

_WILDCARD = re.compile(r"[*?[]")


def has_wildcard(name: str) -> bool:
    """Return whether a name could be a pattern."""
    return _WILDCARD.search(name) is not None


def is_hidden(name: str, *, folder: bool) -> bool:
    """Return whether a name is hidden: with a leading `.`, or a folder with a leading `_`, as in Spark and Hadoop.

    An OUTPUT's `_run` is such a folder. Files with a leading `_` are visible: cameras write `_DSC0001.JPG`. The names
    `.` and `..` are visible as well: no disk lists them, and in a bucket they are names like others.
    """
    return name.startswith((".", "_") if folder else ".") and name not in (".", "..")


def in_hidden(key: str) -> bool:
    """Return whether a key is hidden, by its own name or a folder's."""
    *folders, name = key.split("/")
    return is_hidden(name, folder=False) or any(is_hidden(folder, folder=True) for folder in folders)


def literal_prefix(pattern: str) -> str:
    """Return what precedes the first wildcard: every matching key starts with it."""
    return _WILDCARD.split(pattern, maxsplit=1)[0]


def matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return whether a key, split at its slashes, matches a pattern that is split likewise."""
    if not patterns or not names:
        return not patterns and not names
    pattern, rest = patterns[0], patterns[1:]
    if pattern != "**":
        return _match_name(names[0], pattern, folder=len(names) > 1) and matches(names[1:], rest)
    if not rest:  # at the end `**` matches every visible file
        return bool(names[-1]) and not in_hidden("/".join(names))
    return matches(names, rest) or (not is_hidden(names[0], folder=True) and matches(names[1:], patterns))


def _match_name(name: str, pattern: str, *, folder: bool) -> bool:
    """Match one name. A pattern that begins with a wildcard matches nothing hidden, as in a shell."""
    if _WILDCARD.match(pattern) and (not name or is_hidden(name, folder=folder)):
        return False
    return fnmatchcase(name, pattern)
