"""A folder of a local disk, or of a network file system that is mounted."""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from pipeline.faultpoints import reached
from pipeline.storage.errors import AccessError, Changed, Missing, translated_errors
from pipeline.storage.folder import TEMPORARY_PREFIX, Entry
from pipeline.storage.local_listing import list_files
from pipeline.storage.retry import with_retry

FULL_DIGEST_MAX_BYTES = 4 << 20  # bytes up to which all of a file counts for its version
READ_BUFFER_BYTES = 128 << 10  # bytes that an open file reads ahead
SAMPLE_BYTES, SAMPLE_COUNT = 64 << 10, 16  # beyond: so many blocks of so many bytes, the first and the last among them


def content_version(size: int, read_at: Callable[[int, int], bytes]) -> str:
    """`<size>-<digest>` of what `read_at(offset, bytes)` reads. Times do not count: a copy is the same version."""
    digest = hashlib.blake2b(digest_size=16)
    if size <= FULL_DIGEST_MAX_BYTES:
        digest.update(read_at(0, size))
    else:
        for sample in range(SAMPLE_COUNT):
            digest.update(read_at((size - SAMPLE_BYTES) * sample // (SAMPLE_COUNT - 1), SAMPLE_BYTES))
    return f"{size}-{digest.hexdigest()}"


def _entry(key: str, path: str) -> Entry:
    handle = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(handle).st_size
        version = content_version(size, lambda at, count: os.pread(handle, count, at))
    finally:
        os.close(handle)
    return Entry(key=key, size=size, version=version)


class _File(io.FileIO):
    """A file that is read on after an error that passes: the place in it is then still the one before."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with translated_errors(str(self._path), "reading"):
            return with_retry(lambda: super(_File, self).readinto(buffer))

    def readall(self) -> bytes:
        with translated_errors(str(self._path), "reading"):
            return with_retry(super().readall)


class LocalFolder:
    """A folder by its absolute path. It need not exist: then it is empty, and the first write makes it."""

    def __init__(self, root: str) -> None:
        self.root = root

    def entries(self, prefix: str) -> Iterator[Entry]:
        for key, path in self._files(prefix):
            with suppress(FileNotFoundError):  # deleted since it was listed
                yield with_retry(functools.partial(_entry, key, path))

    def keys(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in self._files(prefix))

    def read(self, key: str, version: str | None) -> bytes:
        data = with_retry(self._path(key).read_bytes)
        found = version and content_version(len(data), lambda at, count: data[at : at + count])
        if found != version:
            raise Changed(f"{self._path(key)} is now {found}, not {version}")
        return data

    def open(self, key: str) -> BinaryIO:
        path = self._path(key)
        return cast(BinaryIO, io.BufferedReader(with_retry(lambda: _File(path)), READ_BUFFER_BYTES))

    def size(self, key: str) -> int:
        status = with_retry(self._path(key).stat)
        if not stat.S_ISREG(status.st_mode):
            raise Missing(f"{self._path(key)} is not a file")
        return status.st_size

    def put_if_absent(self, key: str, data: bytes) -> bool:
        target = self._path(key)
        with self._written(data) as temporary:
            return with_retry(lambda: _link(temporary, target))

    def put(self, key: str, data: bytes) -> None:
        target = self._path(key)
        with self._written(data) as temporary:
            with_retry(lambda: _make_folder(target.parent))
            with_retry(lambda: temporary.replace(target))
            with_retry(lambda: _sync_folder(target.parent))

    def delete(self, key: str) -> None:
        path = self._path(key)
        with_retry(lambda: path.unlink(missing_ok=True))

    def _path(self, key: str) -> Path:
        """Where the key lies: below the root, links aside."""
        if "\0" in key or any(name in ("", ".", "..") for name in key.split("/")):
            raise AccessError(f"{key!r} is not a key of a file in {self.root}")
        return Path(self.root, key)

    @contextmanager
    def _written(self, data: bytes) -> Iterator[Path]:
        """A temporary file with the data, on disk, gone afterwards as far as it can be deleted: it is never listed."""
        temporary = Path(self.root, TEMPORARY_PREFIX, uuid.uuid4().hex)
        try:
            with_retry(lambda: _write(temporary, data))
            reached("store.written")
            yield temporary
        finally:
            with suppress(OSError):
                temporary.unlink()

    def _files(self, prefix: str) -> Iterator[tuple[str, str]]:
        """(key, path) of the files whose keys start with the prefix, in byte order of keys."""
        return list_files(self.root, "", prefix, (os.path.realpath(self.root),))


def _write(temporary: Path, data: bytes) -> None:
    _make_folder(temporary.parent)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _link(temporary: Path, target: Path) -> bool:
    """Whether the temporary file is the one at the target, which it is made where there is none.

    It may be so already: the link was made and its acknowledgement lost, as over NFS, or what follows it failed.
    """
    _make_folder(target.parent)
    try:
        os.link(temporary, target)
    except FileExistsError:
        if not temporary.samefile(target):
            return False
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV):
            raise AccessError(
                f"{target}: no hard link can be made from {temporary.parent} ({error.strerror}), so a file "
                "cannot appear whole and once; use another file system, or say that nobody else writes there: "
                "--single-writer"
            ) from None
        raise
    _sync_folder(target.parent)
    reached("store.linked")
    return True


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
