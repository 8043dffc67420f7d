"""A folder of any fsspec file system: Google and Azure stores, the Hugging Face Hub, web servers."""

import functools
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, BinaryIO, cast

from pipeline.storage.entry import Entry
from pipeline.storage.errors import Changed, Missing, translated_errors
from pipeline.storage.left_out import LeaveOut, Reason, ignore_left_out
from pipeline.storage.retry import with_retry

READ_AHEAD_BYTES = 1 << 20  # smallest ranged request
# Time limit of a request: until its response begins, plus the time for its bytes at the slowest accepted rate. Clients
# may retry internally for minutes, and an S3 PUT waits for "100 Continue" without a limit of its own.
MAX_LATENCY_SECONDS = 40.0
MIN_BYTES_PER_SECOND = 1 << 17


class FsspecFolder:
    """Folder `root` of the fsspec file system `fs`. `put_if_absent` is atomic if the file system's `mode="create"` is.

    Listed folder by folder; the listing of one folder is in memory at a time.
    """

    def __init__(self, fs: Any, root: str, uri: str) -> None:
        self.fs, self.root, self.uri = fs, root, uri

    def entries(self, prefix: str, leave_out: LeaveOut = ignore_left_out) -> Iterator[Entry]:
        for key, listed in self._files(self.root, prefix):
            try:
                info = self._info(key) if listed["size"] is None else listed  # web servers list names only
            except FileNotFoundError:
                leave_out(key, Reason.DELETED)
            else:
                yield Entry(key=key, size=int(info["size"] or 0), version=version_of(info))

    def keys(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in self._files(self.root, prefix))

    def read(self, key: str, version: str | None) -> bytes:
        data = self._fetch(self._path(key))
        # Looked up after the read: a version that is still there was there during it.
        found = version and version_of(self._info(key))
        if found != version:
            raise Changed(f"{self.uri}/{key} changed: its version is {found}, expected {version}")
        return data

    def read_start(self, key: str, size: int) -> bytes:
        return self._fetch(self._path(key), 0, size)

    def open(self, key: str) -> BinaryIO:
        return self._ranged(key, self.size(key), functools.partial(self._fetch, self._path(key)))

    def size(self, key: str) -> int:
        return int(self._info(key)["size"])

    def entry(self, key: str) -> Entry:
        info = self._info(key)
        return Entry(key=key, size=int(info["size"]), version=version_of(info))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        try:
            with_retry(lambda: self.fs.pipe_file(path, data, mode="create", **self._time_limit(len(data))))
        except FileExistsError:
            # The same content may be ours, from an earlier attempt whose response was lost. It cannot be another
            # writer's: all objects written here name their writer.
            return self._fetch(path) == data
        return True

    def put(self, key: str, data: bytes) -> None:
        with_retry(lambda: self.fs.pipe_file(self._path(key), data, **self._time_limit(len(data))))

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            with_retry(lambda: self.fs.rm_file(self._path(key), **self._time_limit()))

    def remove_empty_folders(self) -> None:
        """Do nothing: object stores have no folders."""

    def _fetch(self, path: str, begin: int | None = None, end: int | None = None) -> bytes:
        """Return the content of a file, or a range of it. Only a range has a time limit."""
        limit = {} if begin is None or end is None else self._time_limit(end - begin)
        return with_retry(lambda: bytes(self.fs.cat_file(path, start=begin, end=end, **limit)))

    def _time_limit(self, size: int = 0) -> dict[str, float]:
        """Return the argument that limits the time of a call that transfers `size` bytes, if `fs` supports one."""
        return {"timeout": timeout_seconds(size)} if self.fs.async_impl else {}

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"

    def _info(self, key: str) -> dict[str, Any]:
        self.fs.invalidate_cache()  # the Hub's file system caches listings whatever its options
        info: dict[str, Any] = with_retry(lambda: self.fs.info(self._path(key), **self._time_limit()))
        if info["type"] != "file":
            raise Missing(f"{self.uri}/{key} is not a file")
        return info

    def _ranged(self, key: str, size: int, fetch: Callable[[int, int], bytes]) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(RangedFile(f"{self.uri}/{key}", size, fetch), READ_AHEAD_BYTES))

    def _files(self, folder: str, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        self.fs.invalidate_cache()
        try:
            found = with_retry(lambda: self.fs.ls(folder, detail=True))
        except FileNotFoundError:
            return  # an empty folder
        children = [(self._key(info), info) for info in found if info["name"].rstrip("/") != folder.rstrip("/")]
        for key, info in sorted(children, key=lambda child: child[0].encode()):
            if not key.endswith("/"):
                if key.startswith(prefix):
                    yield key, info
            elif key.startswith(prefix) or prefix.startswith(key):
                yield from self._files(f"{self.root}/{key[:-1]}", prefix)

    def _key(self, info: dict[str, Any]) -> str:
        key: str = info["name"][len(self.root) + 1 :].rstrip("/")
        return key + "/" if info["type"] == "directory" else key


class RangedFile(io.RawIOBase):
    """A seekable file of `size` bytes. Each read is one request, `fetch(begin, end)`, whose errors name the URI."""

    def __init__(self, uri: str, size: int, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._uri, self._size, self._fetch, self._position = uri, size, fetch, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        begin, end = self._position, min(self._size, self._position + len(buffer))
        if end <= begin:
            return 0
        with translated_errors(self._uri, "reading"):
            data = self._fetch(begin, end)
        if len(data) != end - begin:
            raise EOFError(f"requested bytes {begin} to {end} of {self._size}, received {len(data)}")
        buffer[: len(data)] = data
        self._position = end
        return len(data)


def timeout_seconds(size: int) -> float:
    """Return the time limit of a request that transfers `size` bytes."""
    return MAX_LATENCY_SECONDS + size / MIN_BYTES_PER_SECOND


def version_of(info: dict[str, Any]) -> str:
    """Return the generation (Google), ETag (S3, Azure) or digest (Hugging Face); else size and modification time."""
    for name in ("generation", "ETag", "etag", "xet_hash", "blob_id"):
        if info.get(name):
            return str(info[name]).strip('"')
    times = (info.get(name) for name in ("mtime", "last_modified", "LastModified", "created"))
    time = next((time for time in times if time), "")
    # Some file systems return a number in listings and a datetime in look-ups.
    return f"{info['size']}-{time.timestamp() if isinstance(time, datetime) else time}"
