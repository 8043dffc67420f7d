"""A file on a local disk that is read: a regular one, in one version from its opening to its end."""

import hashlib
import io
import os
import stat
from collections.abc import Callable

from pipeline.storage.errors import Changed, NotRegular, translated_errors
from pipeline.storage.retry import with_retry

FULL_DIGEST_MAX_BYTES = 4 << 20  # the version of a file up to this size depends on every byte
SAMPLE_BYTES, SAMPLE_COUNT = 64 << 10, 16  # that of a larger one on this many evenly spaced blocks, both ends included


class LocalFile(io.FileIO):
    """A regular file. Opening it raises NotRegular at once for a named pipe, a device or a socket.

    Its reads are retried: after a failed one the position is unchanged. They raise Changed if the file was written to
    since it was opened; a file that was replaced is read to its end as it was.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, opener=_open_regular)
        self._path, self._opened = path, os.fstat(self.fileno())

    @property
    def size(self) -> int:
        """Size in bytes when it was opened."""
        return self._opened.st_size

    def version(self, read_at: Callable[[int, int], bytes] | None = None) -> str:
        """Return `<size>-<digest>` of a small file, so that a copy has the same version, whatever its times.

        A large file is digested in samples only, and has `-<modification time in nanoseconds>` at the end. read_at:
        returns `count` bytes of the file from `offset`, if they were read before.
        """
        read_at, digest = read_at or self._read_at, hashlib.blake2b(digest_size=16)
        if self.size <= FULL_DIGEST_MAX_BYTES:
            digest.update(read_at(0, self.size))
            return f"{self.size}-{digest.hexdigest()}"
        for sample in range(SAMPLE_COUNT):
            digest.update(read_at((self.size - SAMPLE_BYTES) * sample // (SAMPLE_COUNT - 1), SAMPLE_BYTES))
        return f"{self.size}-{digest.hexdigest()}-{self._opened.st_mtime_ns}"

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with translated_errors(self._path, "reading"):
            count = with_retry(lambda: super(LocalFile, self).readinto(buffer))
            self._check_unchanged()
        return count

    def readall(self) -> bytes:
        with translated_errors(self._path, "reading"):
            data = with_retry(super().readall)
            self._check_unchanged()
        return data

    def _read_at(self, offset: int, count: int) -> bytes:
        return os.pread(self.fileno(), count, offset)

    def _check_unchanged(self) -> None:
        found = os.fstat(self.fileno())
        if (found.st_size, found.st_mtime_ns) != (self._opened.st_size, self._opened.st_mtime_ns):
            raise Changed(f"{self._path} changed while it was read")


def check_regular(path: str, mode: int) -> None:
    """Raise NotRegular, with what it is, unless this is the mode of a regular file."""
    if not stat.S_ISREG(mode):
        raise NotRegular(f"{path} is {KINDS.get(stat.S_IFMT(mode), 'not a regular file')}: only regular files are read")


KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _open_regular(path: str, flags: int) -> int:
    """Open without blocking, as a pipe without a writer would, and refuse what is no regular file."""
    check_regular(path, os.stat(path).st_mode)  # noqa: PTH116 - opening a device may act on it, and a socket fails
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        check_regular(path, os.fstat(handle).st_mode)  # it may have taken the place of a file just now
    except BaseException:
        os.close(handle)
        raise
    return handle
