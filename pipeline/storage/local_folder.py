"""A folder on a local disk or a mounted network file system."""

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
from pipeline.storage.entry import TEMPORARY_PREFIX, Entry
from pipeline.storage.errors import AccessError, Changed, Missing, translated_errors
from pipeline.storage.left_out import LeaveOut, Reason, ignore_left_out
from pipeline.storage.local_listing import list_files
from pipeline.storage.retry import with_retry

FULL_DIGEST_MAX_BYTES = 4 << 20  # the version of a file up to this size depends on every byte
SAMPLE_BYTES, SAMPLE_COUNT = 64 << 10, 16  # that of a larger one on this many evenly spaced blocks, both ends included
READ_BUFFER_BYTES = 128 << 10


def content_version(size: int, read_at: Callable[[int, int], bytes]) -> str:
    """Return `<size>-<digest>` of the content that `read_at(offset, count)` reads.

    Independent of times, so that a copy has the same version.
    """
    digest = hashlib.blake2b(digest_size=16)
    if size <= FULL_DIGEST_MAX_BYTES:
        digest.update(read_at(0, size))
    else:
        for sample in range(SAMPLE_COUNT):
            digest.update(read_at((size - SAMPLE_BYTES) * sample // (SAMPLE_COUNT - 1), SAMPLE_BYTES))
    return f"{size}-{digest.hexdigest()}"


def _entry(key: str, path: str) -> Entry:
    """Return the entry of a file. The version of a file that must not be opened has no digest; a unit reports it."""
    try:
        file = io.FileIO(path)
    except PermissionError:
        size = os.stat(path).st_size  # noqa: PTH116 - once per file
        return Entry(key=key, size=size, version=f"{size}-denied")
    with file:
        size = os.fstat(file.fileno()).st_size
        version = content_version(size, lambda offset, count: os.pread(file.fileno(), count, offset))
    return Entry(key=key, size=size, version=version)


class _File(io.FileIO):
    """A file whose reads are retried: after a failed read its position is unchanged."""

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
    """A folder by its absolute path. It is empty if it does not exist; the first write creates it."""

    def __init__(self, root: str) -> None:
        self.root = root

    def entries(self, prefix: str, leave_out: LeaveOut = ignore_left_out) -> Iterator[Entry]:
        for key, path in list_files(self.root, prefix, leave_out):
            try:
                entry = with_retry(functools.partial(_entry, key, path))
            except FileNotFoundError:
                leave_out(key, Reason.DELETED)
            else:
                yield entry

    def keys(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in list_files(self.root, prefix))

    def read(self, key: str, version: str | None) -> bytes:
        data = with_retry(self._path(key).read_bytes)
        found = version and content_version(len(data), lambda offset, count: data[offset : offset + count])
        if found != version:
            raise Changed(f"{self._path(key)} changed: its version is {found}, expected {version}")
        return data

    def read_start(self, key: str, size: int) -> bytes:
        with self.open(key) as file:
            return file.read(size)

    def open(self, key: str) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(with_retry(lambda: _File(self._path(key))), READ_BUFFER_BYTES))

    def size(self, key: str) -> int:
        status = with_retry(self._path(key).stat)
        if not stat.S_ISREG(status.st_mode):
            raise Missing(f"{self._path(key)} is not a file")
        return status.st_size

    def entry(self, key: str) -> Entry:
        self.size(key)  # raises if it is a pipe or a device, which must not be opened
        return with_retry(lambda: _entry(key, str(self._path(key))))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        target = self._path(key)
        with self._temporary_file(data) as temporary:
            return with_retry(lambda: _link(temporary, target))

    def put(self, key: str, data: bytes) -> None:
        target = self._path(key)
        with self._temporary_file(data) as temporary:
            with_retry(lambda: _make_folder(target.parent))
            with_retry(lambda: temporary.replace(target))
            with_retry(lambda: _sync_folder(target.parent))

    def delete(self, key: str) -> None:
        with_retry(lambda: self._path(key).unlink(missing_ok=True))

    def remove_empty_folders(self) -> None:
        for folder, _, _ in os.walk(Path(self.root, "_run"), topdown=False):
            with suppress(OSError):  # not empty
                Path(folder).rmdir()

    def _path(self, key: str) -> Path:
        """Return the path of the key, which is below the root unless a symbolic link leads out of it."""
        if "\0" in key or any(name in ("", ".", "..") for name in key.split("/")):
            raise AccessError(f"{key!r} is not the path of a file in {self.root}: names must not be empty, . or ..")
        return Path(self.root, key)

    @contextmanager
    def _temporary_file(self, data: bytes) -> Iterator[Path]:
        """Write the data to a temporary file, synced to disk and never listed. Delete it afterwards if possible."""
        temporary = Path(self.root, TEMPORARY_PREFIX, uuid.uuid4().hex)
        try:
            with_retry(lambda: _write(temporary, data))
            reached("store.written")
            yield temporary
        finally:
            with suppress(OSError):
                temporary.unlink()


def _write(temporary: Path, data: bytes) -> None:
    try:
        file = _create(temporary)
    except FileNotFoundError:  # another program removed the empty folder
        file = _create(temporary)
    with file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _create(path: Path) -> BinaryIO:
    _make_folder(path.parent)
    return path.open("wb")


def _link(temporary: Path, target: Path) -> bool:
    """Link the temporary file to the target unless a file is there. Return whether the target is the temporary file.

    It may already be: an earlier attempt may have made the link and failed later, or lost the response (NFS).
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
                f"{target}: no hard link can be made from {temporary.parent} ({error.strerror}), which is needed to "
                "write each file completely and only once; use another file system, or --single-writer if no other "
                "process writes there"
            ) from None
        raise
    _sync_folder(target.parent)
    reached("store.linked")
    return True


def _make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, each synced to disk."""
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
