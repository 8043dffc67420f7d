"""Which keys a glob takes: `*`, `?`, `[…]` within a name, `**` for any number of folders."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TypeAlias

_WILDCARD = re.compile(r"[*?[]")


def has_wildcard(name: str) -> bool:
    """Whether a name could be a pattern."""
    return _WILDCARD.search(name) is not None


def is_hidden(name: str, *, folder: bool) -> bool:
    """Whether only its own name offers it: as in Spark and Hadoop names with a leading `.`, and folders with a leading
    `_` (an OUTPUT's `_run`). Files with a leading `_` are seen: cameras write `_DSC0001.JPG`. So are those in `.` and
    `..`, names like others in a bucket, which no disk lists."""
    return name.startswith((".", "_") if folder else ".") and name not in (".", "..")


def in_hidden(key: str) -> bool:
    """Whether a key is hidden, by its own name or a folder's."""
    *folders, name = key.split("/")
    return is_hidden(name, folder=False) or any(is_hidden(folder, folder=True) for folder in folders)


@dataclass(frozen=True)
class _Name:
    """The pattern of one name. One that begins with a wildcard takes nothing hidden, as in a shell."""

    pattern: str

    def matches(self, name: str, *, folder: bool) -> bool:
        if _WILDCARD.match(self.pattern) and (not name or is_hidden(name, folder=folder)):
            return False
        return fnmatch.fnmatchcase(name, self.pattern)


_Parts: TypeAlias = tuple[_Name | None, ...]  # None is `**`


@dataclass(frozen=True, kw_only=True)
class Glob:
    """A pattern of keys below `folder`, which is what stands before the first name with a wildcard.

    prefix: what every key that matches starts with.
    """

    folder: str
    prefix: str
    parts: _Parts

    @classmethod
    def parse(cls, names: list[str], first: int) -> Glob:
        """The glob of a URI split at its slashes, in which `names[first]` is the first to be read as a pattern."""
        pattern = "/".join(names[first:])
        return cls(
            folder="/".join(names[:first]),
            prefix=_WILDCARD.split(pattern, maxsplit=1)[0],
            parts=tuple(None if name == "**" else _Name(name) for name in names[first:]),
        )

    def matches(self, key: str) -> bool:
        """Whether the glob takes the key."""
        return _match(key.split("/"), self.parts)


def _match(names: list[str], parts: _Parts) -> bool:
    if not parts or not names:
        return not parts and not names
    part, rest = parts[0], parts[1:]
    if part is None:
        return _match_behind_folders(names, rest)
    return part.matches(names[0], folder=len(names) > 1) and _match(names[1:], rest)


def _match_behind_folders(names: list[str], rest: _Parts) -> bool:
    """`**`: the rest matches behind no folder or behind some, none of them hidden; at the end it takes every file."""
    if not rest:
        return bool(names[-1]) and not in_hidden("/".join(names))
    for at in range(len(names)):
        if _match(names[at:], rest):
            return True
        if is_hidden(names[at], folder=True):
            return False
    return False
