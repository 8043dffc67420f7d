"""What lies in a folder of a local disk, in the order that object stores list their keys in."""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Iterator

from pipeline.storage.errors import AccessError
from pipeline.storage.retry import with_retry


def list_files(folder: str, above: str, prefix: str, listed: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(key, path) of the files below a folder whose key, with its slash, is `above`.

    `listed`: the real folders whose listing led here. A link to a folder inside or above one of them is not followed:
    the files there have a key already, and this is what ends loops. Links to files and other folders are followed.
    """
    for name in with_retry(functools.partial(_children, folder)):
        child = name.decode()
        key, path = above + child, os.path.join(folder, child.rstrip("/"))  # noqa: PTH118  once for every file
        if not child.endswith("/"):
            if key.startswith(prefix):
                yield key, path
        elif key.startswith(prefix) or prefix.startswith(key):
            inner = listed
            if os.path.islink(path):  # noqa: PTH114
                target = os.path.realpath(path)
                if any(_holds(one, target) or _holds(target, one) for one in listed):
                    continue
                inner = (*listed, target)
            yield from list_files(path, key, prefix, inner)


def _children(folder: str) -> list[bytes]:
    """The names of what lies in a folder, a folder's with `/` behind it, in byte order. As bytes, and nothing beside
    them: a folder may hold a million files, and all of them are in memory."""
    children = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                mode = _mode(entry)
                if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
                    children.append(_encoded(entry) + b"/" * stat.S_ISDIR(mode))
    except (FileNotFoundError, NotADirectoryError):
        return []  # not there, or deleted meanwhile: an empty folder
    children.sort()
    return children


def _encoded(entry: os.DirEntry[str]) -> bytes:
    try:
        return entry.name.encode()
    except UnicodeEncodeError:
        raise AccessError(
            f"the name of {os.fsencode(entry.path)!r} is not UTF-8, so it cannot be a key; rename it"
        ) from None


def _mode(entry: os.DirEntry[str]) -> int:
    """The mode of what the entry leads to, 0 for a link that leads nowhere or in a circle."""
    try:
        return entry.stat().st_mode
    except FileNotFoundError:
        return 0
    except OSError as error:
        if error.errno == errno.ELOOP:
            return 0
        raise


def _holds(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
