"""What lies in a folder of a local disk, in the order that object stores list their keys in."""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Iterator

from pipeline.storage.patience import patiently
from pipeline.storage.uris import AccessError


def walk(folder: str, above: str, prefix: str, listed: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(key, path) of the files below a folder whose key, with its slash, is `above`.

    `listed`: the real folders whose listing led here. A link to a folder inside or above one of them is not followed:
    the files there have a key already, and this is what ends loops. Links to files and other folders are followed.
    """
    for key, path, is_folder in patiently(functools.partial(_children, folder, above)):
        if not is_folder:
            if key.startswith(prefix):
                yield key, path
        elif key.startswith(prefix) or prefix.startswith(key):
            inner = listed
            if os.path.islink(path):  # noqa: PTH114
                target = os.path.realpath(path)
                if any(_holds(one, target) or _holds(target, one) for one in listed):
                    continue
                inner = (*listed, target)
            yield from walk(path, key, prefix, inner)


def _children(folder: str, above: str) -> list[tuple[str, str, bool]]:
    """(key, path, whether a folder) of what lies in a folder, in order of the keys below; a folder's ends in `/`."""
    children = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                mode = _mode(entry)
                if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
                    is_folder = stat.S_ISDIR(mode)
                    children.append((above + entry.name + "/" * is_folder, entry.path, is_folder))
    except (FileNotFoundError, NotADirectoryError):
        return []  # not there, or deleted meanwhile: an empty folder
    return sorted(children, key=_byte_order)


def _byte_order(child: tuple[str, str, bool]) -> bytes:
    try:
        return child[0].encode()
    except UnicodeEncodeError:
        raise AccessError(
            f"the name of {os.fsencode(child[1])!r} is not UTF-8, so it cannot be a key; rename it"
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
