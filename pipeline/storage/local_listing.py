"""Recursive listing of a local folder in the order of object stores: by the bytes of whole keys."""

import errno
import functools
import os
import stat
from collections.abc import Iterator

from pipeline.storage.left_out import LeaveOut, Reason, ignore_left_out
from pipeline.storage.retry import with_retry


def list_files(
    folder: str,
    prefix: str,
    leave_out: LeaveOut = ignore_left_out,
    *,
    folder_key: str = "",
    ancestors: tuple[str, ...] = (),
) -> Iterator[tuple[str, str]]:
    """Yield (key, path) of the files whose keys start with the prefix, in byte order of keys.

    `folder` is the root, or the folder below it whose key, with a trailing slash, is `folder_key`. Files whose keys are
    not UTF-8 are left out. Links to files and folders are followed. `ancestors` are the real paths of the root and of
    the linked folders above this one: a link to a folder inside or above one of them is left out, since its files have
    keys already. This also ends loops.
    """
    ancestors = ancestors or (os.path.realpath(folder),)
    children, left_out = with_retry(functools.partial(_children, folder))
    for child, reason in left_out:
        if (folder_key + child).startswith(prefix):
            leave_out(folder_key + child, reason)
    for name in children:
        child = os.fsdecode(name)
        key, path = folder_key + child, os.path.join(folder, child.rstrip("/"))  # noqa: PTH118 - once per file
        if not child.endswith("/"):
            if key.startswith(prefix):
                if _is_utf8(key):
                    yield key, path
                else:
                    leave_out(key, Reason.NAME)
        elif key.startswith(prefix) or prefix.startswith(key):
            inner = ancestors
            if os.path.islink(path):  # noqa: PTH114
                target = os.path.realpath(path)
                common = {os.path.commonpath((one, target)) for one in ancestors}
                if target in common or not common.isdisjoint(ancestors):
                    if key.startswith(prefix):
                        is_loop = os.path.commonpath((os.path.realpath(folder), target)) == target
                        leave_out(key[:-1], Reason.LINK_LOOP if is_loop else Reason.LISTED_FOLDER)
                    continue
                inner = (*ancestors, target)
            yield from list_files(path, prefix, leave_out, folder_key=key, ancestors=inner)


def _children(folder: str) -> tuple[list[bytes], list[tuple[str, Reason]]]:
    """Return the sorted names of the files and folders in a folder, those of folders with a trailing slash, and
    (name, reason) of the other entries.

    Names alone, as bytes: a folder may hold a million files, and all of them are in memory.
    """
    children, left_out = [], []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                kind = _kind(entry)
                if isinstance(kind, Reason):
                    left_out.append((entry.name, kind))
                else:
                    children.append(os.fsencode(entry.name) + kind)
    except (FileNotFoundError, NotADirectoryError):
        return [], []  # never created, or deleted meanwhile: an empty folder
    children.sort()
    left_out.sort()
    return children, left_out


def _is_utf8(key: str) -> bool:
    """Return whether a key has no bytes that are not UTF-8, which ids and rows cannot hold."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(entry: os.DirEntry[str]) -> bytes | Reason:
    """Return a slash if the entry's target is a folder, nothing if it is a file, else why it is neither."""
    try:
        mode = entry.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return Reason.DANGLING_LINK if entry.is_symlink() else Reason.DELETED
    except OSError as error:
        if error.errno == errno.ELOOP:
            return Reason.LINK_LOOP
        raise
    if stat.S_ISDIR(mode):
        return b"/"
    return b"" if stat.S_ISREG(mode) else Reason.NOT_REGULAR
