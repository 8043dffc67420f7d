"""A folder of a local disk, or of a network file system that is mounted."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pipeline.storage.base import TEMPORARY, Entry
from pipeline.storage.errors import Changed, Missing
from pipeline.storage.uris import AccessError

WHOLE = 4 << 20  # bytes up to which all of a file counts for its version
BLOCK, SAMPLES = 64 << 10, 16  # beyond: so many blocks of so many bytes, the first and the last among them


def content_version(size: int, read_at: Callable[[int, int], bytes]) -> str:
    """`<size>-<digest>` of what `read_at(offset, bytes)` reads. Times do not count: a copy is the same version."""
    digest = hashlib.blake2b(digest_size=16)
    if size <= WHOLE:
        digest.update(read_at(0, size))
    else:
        for sample in range(SAMPLES):
            digest.update(read_at((size - BLOCK) * sample // (SAMPLES - 1), BLOCK))
    return f"{size}-{digest.hexdigest()}"


def _entry(key: str, path: str) -> Entry:
    handle = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(handle).st_size
        version = content_version(size, lambda at, count: os.pread(handle, count, at))
    finally:
        os.close(handle)
    return Entry(key=key, size=size, version=version)


class LocalFolder:
    """A folder by its absolute path. It need not exist: then it is empty, and the first write makes it."""

    def __init__(self, root: str) -> None:
        self.root = root

    def entries(self, prefix: str) -> Iterator[Entry]:
        for key, path in self._files(prefix):
            with suppress(FileNotFoundError):  # deleted since it was listed
                yield _entry(key, path)

    def names(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in self._files(prefix))

    def read(self, key: str, version: str | None) -> bytes:
        data = self._path(key).read_bytes()
        found = version and content_version(len(data), lambda at, count: data[at : at + count])
        if found != version:
            raise Changed(f"{self._path(key)} is now {found}, not {version}")
        return data

    def open(self, key: str) -> BinaryIO:
        return self._path(key).open("rb")

    def size(self, key: str) -> int:
        status = self._path(key).stat()
        if not stat.S_ISREG(status.st_mode):
            raise Missing(f"{self._path(key)} is not a file")
        return status.st_size

    def put_if_absent(self, key: str, data: bytes) -> bool:
        target = self._path(key)
        with self._written(data) as temporary:
            _make_folder(target.parent)
            try:
                os.link(temporary, target)
            except FileExistsError:
                # Over NFS the link may be ours, its acknowledgement lost: nobody else links this temporary file.
                if temporary.stat().st_nlink < 2:
                    return False
            except OSError as error:
                if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV):
                    raise AccessError(
                        f"{target}: no hard link can be made from {temporary.parent} ({error.strerror}), so a file "
                        "cannot appear whole and once; use another file system, or say that there is a single writer"
                    ) from None
                raise
            _sync_folder(target.parent)
        return True

    def put(self, key: str, data: bytes) -> None:
        target = self._path(key)
        with self._written(data) as temporary:
            _make_folder(target.parent)
            temporary.replace(target)
            _sync_folder(target.parent)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        """Where the key lies: below the root, links aside."""
        if "\0" in key or any(name in ("", ".", "..") for name in key.split("/")):
            raise AccessError(f"{key!r} is not a key of a file in {self.root}")
        return Path(self.root, key)

    @contextmanager
    def _written(self, data: bytes) -> Iterator[Path]:
        """A temporary file with the data, on disk, gone afterwards in any case."""
        temporary = Path(self.root, TEMPORARY, uuid.uuid4().hex)
        _make_folder(temporary.parent)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _files(self, prefix: str) -> Iterator[tuple[str, str]]:
        """(key, path) of the files whose keys start with the prefix, in byte order of keys."""
        return _walk(self.root, "", prefix, (os.path.realpath(self.root),))


def _walk(folder: str, above: str, prefix: str, listed: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(key, path) of the files below a folder whose key, with its slash, is `above`.

    `listed`: the real folders whose listing led here. A link to a folder inside or above one of them is not followed:
    the files there have a key already, and this is what ends loops. Links to files and other folders are followed.
    """
    for key, path, is_folder in _children(folder, above):
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
            yield from _walk(path, key, prefix, inner)


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


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they outlast a power cut."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
