"""A folder on a local disk or a mounted network file system."""

import errno
import functools
import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from pipeline.faultpoints import reached
from pipeline.storage.entry import TEMPORARY_PREFIX, Entry, is_same_version
from pipeline.storage.errors import AccessError, Changed, NotRegular
from pipeline.storage.left_out import LeaveOut, Reason, ignore_left_out
from pipeline.storage.local_file import LocalFile, check_regular
from pipeline.storage.local_listing import list_files
from pipeline.storage.retry import with_retry

READ_BUFFER_BYTES = 128 << 10


def _entry(key: str, path: str) -> Entry:
    """Return the entry of a file. The version of a file that must not be opened has no digest; a unit reports it."""
    try:
        file = LocalFile(path)
    except PermissionError:
        size = os.stat(path).st_size  # noqa: PTH116 - once per file
        return Entry(key=key, size=size, version=f"{size}-denied")
    with file:
        return Entry(key=key, size=file.size, version=file.version())


def _check_version(path: Path, found: str, version: str | None) -> None:
    if version is not None and not is_same_version(version, found):
        raise Changed(f"{path} changed: its version is {found}, expected {version}")


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
            except NotRegular:  # it took the file's place just now
                leave_out(key, Reason.NOT_REGULAR)
            else:
                yield entry

    def keys(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in list_files(self.root, prefix))

    def stamps(self, prefix: str) -> Iterator[tuple[str, str]]:
        for key in self.keys(prefix):
            with suppress(FileNotFoundError, NotRegular):  # deleted or replaced since it was listed
                yield key, self.stamp(key)

    def stamp(self, key: str) -> str:
        path = f"{self.root}/{key}"
        status = with_retry(functools.partial(os.stat, path))
        check_regular(path, status.st_mode)
        return f"{status.st_size}-{status.st_mtime_ns}"

    def read(self, key: str, version: str | None, size: int | None = None) -> bytes:  # noqa: ARG002 - in `version`
        path = self._path(key)
        with with_retry(lambda: LocalFile(str(path))) as file:
            data = file.readall()
            if version is not None:
                _check_version(path, file.version(lambda offset, count: data[offset : offset + count]), version)
        return data

    def read_start(self, key: str, size: int) -> bytes:
        with self.open(key) as file:
            return file.read(size)

    def open(self, key: str, version: str | None = None, size: int | None = None) -> BinaryIO:  # noqa: ARG002
        path = self._path(key)
        file = with_retry(lambda: LocalFile(str(path)))
        try:
            if version is not None:
                _check_version(path, with_retry(file.version), version)
        except BaseException:
            file.close()
            raise
        return cast(BinaryIO, io.BufferedReader(file, READ_BUFFER_BYTES))

    def size(self, key: str) -> int:
        path = self._path(key)
        status = with_retry(path.stat)
        check_regular(str(path), status.st_mode)
        return status.st_size

    def entry(self, key: str) -> Entry:
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
