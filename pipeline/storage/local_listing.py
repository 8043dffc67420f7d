"""Recursive listing of a local folder in the order of object stores: by the bytes of whole keys."""

import errno
import functools
import os
import stat
from collections.abc import Iterator

from pipeline.storage.errors import AccessError
from pipeline.storage.retry import with_retry


def list_files(
    folder: str, prefix: str, *, folder_key: str = "", ancestors: tuple[str, ...] = ()
) -> Iterator[tuple[str, str]]:
    """Yield (key, path) of the files whose keys start with the prefix, in byte order of keys.

    `folder` is the root, or the folder below it whose key, with a trailing slash, is `folder_key`. Links to files and
    folders are followed. `ancestors` are the real paths of the root and of the linked folders above this one: a link to
    a folder inside or above one of them is skipped, since its files have keys already. This also ends loops.
    """
    ancestors = ancestors or (os.path.realpath(folder),)
    for name in with_retry(functools.partial(_children, folder)):
        child = name.decode()
        key, path = folder_key + child, os.path.join(folder, child.rstrip("/"))  # noqa: PTH118 - once per file
        if not child.endswith("/"):
            if key.startswith(prefix):
                yield key, path
        elif key.startswith(prefix) or prefix.startswith(key):
            inner = ancestors
            if os.path.islink(path):  # noqa: PTH114
                target = os.path.realpath(path)
                if any(os.path.commonpath((one, target)) in (one, target) for one in ancestors):
                    continue
                inner = (*ancestors, target)
            yield from list_files(path, prefix, folder_key=key, ancestors=inner)


def _children(folder: str) -> list[bytes]:
    """Return the sorted names of the files and folders in a folder, those of folders with a trailing slash.

    Names alone, as bytes: a folder may hold a million files, and all of them are in memory.
    """
    children = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                mode = _mode(entry)
                if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
                    children.append(_encoded(entry) + b"/" * stat.S_ISDIR(mode))
    except (FileNotFoundError, NotADirectoryError):
        return []  # never created, or deleted meanwhile: an empty folder
    children.sort()
    return children


def _encoded(entry: os.DirEntry[str]) -> bytes:
    try:
        return entry.name.encode()
    except UnicodeEncodeError:
        raise AccessError(f"the name of {os.fsencode(entry.path)!r} is not valid UTF-8; rename it") from None


def _mode(entry: os.DirEntry[str]) -> int:
    """Return the mode of the entry's target; 0 for a link that is dangling or circular."""
    try:
        return entry.stat().st_mode
    except FileNotFoundError:
        return 0
    except OSError as error:
        if error.errno == errno.ELOOP:
            return 0
        raise
