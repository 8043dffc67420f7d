"""A folder of any fsspec file system: Google and Azure stores, the Hugging Face Hub, web servers."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, cast

from pipeline.storage.entry import Entry, is_same_version
from pipeline.storage.errors import Changed, Corrupt, NotRegular, StorageError, translated_errors
from pipeline.storage.left_out import LeaveOut, Reason, ignore_left_out
from pipeline.storage.retry import with_retry
from pipeline.storage.schemes import is_web
from pipeline.storage.time_limits import MAX_LISTING_SECONDS, timeout_seconds, within

READ_AHEAD_BYTES = 1 << 20  # smallest ranged request
UNKNOWN_BYTES = 512 << 20  # assumed for the time limit of a file whose size the server does not tell


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

    def stamps(self, prefix: str) -> Iterator[tuple[str, str]]:
        return ((entry.key, stamp_of(entry)) for entry in self.entries(prefix))

    def stamp(self, key: str) -> str:
        return stamp_of(self.entry(key))

    def read(self, key: str, version: str | None, size: int | None = None) -> bytes:
        def get() -> bytes:
            expected = size or self._info_once(key, version, None)["size"]
            seconds = timeout_seconds(expected or UNKNOWN_BYTES)
            data = bytes(self._request("cat_file", self._path(key), seconds=seconds))
            if version is not None:  # looked up after the read: a version that is still there was there during it
                expected = self._info_once(key, version, size)["size"]
            self._check_size(key, len(data), expected)
            return data

        return with_retry(get)

    def read_start(self, key: str, size: int) -> bytes:
        data = with_retry(lambda: self._read_range(key, 0, size))
        return data[:size]  # a server without ranges sends the whole file

    def open(self, key: str, version: str | None = None, size: int | None = None) -> BinaryIO:
        info = self._info(key, version, size)
        if info["size"] is None:
            raise StorageError(f"{self.uri}/{key}: the server does not tell the size, without which it cannot be read")

        size, whole = int(info["size"]), list[bytes]()  # all of it, from a server that does not support ranges
        of_version = {"info": info} if is_web(self.uri) else {}

        def fetch(begin: int, end: int) -> bytes:
            data = whole[0][begin:end] if whole else self._read_range(key, begin, end, **of_version)
            if len(data) == size != end - begin:
                whole.append(data)
                data = data[begin:end]
            if len(data) != end - begin:
                raise Corrupt(f"{self.uri}/{key}: of bytes {begin:,} to {end:,}, {len(data):,} were received")
            return data

        return self._ranged(key, size, lambda begin, end: with_retry(lambda: fetch(begin, end)))

    def size(self, key: str) -> int:
        return self.entry(key).size

    def entry(self, key: str) -> Entry:
        info = self._info(key)
        return Entry(key=key, size=int(info["size"] or 0), version=version_of(info))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        try:
            with_retry(lambda: self._put(path, data, mode="create"))
        except FileExistsError:
            # The same content may be ours, from an earlier attempt whose response was lost. It cannot be another
            # writer's: all objects written here name their writer.
            return self.read(key, None) == data
        return True

    def put(self, key: str, data: bytes) -> None:
        with_retry(lambda: self._put(self._path(key), data))

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            with_retry(lambda: self._request("rm_file", self._path(key), seconds=timeout_seconds(0)))

    def remove_empty_folders(self) -> None:
        """Do nothing: object stores have no folders."""

    def _check_version(self, key: str, found: str, version: str | None) -> None:
        if version is None or is_same_version(version, found):
            return
        if _BARE_VERSION.fullmatch(found) and not _BARE_VERSION.fullmatch(str(version)):
            raise Corrupt(
                f"{self.uri}/{key}: the answer has no version, in place of {version}: a proxy may have given it"
            )
        raise Changed(f"{self.uri}/{key} changed: its version is {found}, expected {version}")

    def _check_size(self, key: str, found: int | None, size: int | None) -> None:
        """Raise Corrupt if the right version has the wrong size. Web servers may not know one."""
        if found is not None and size and found != size:
            raise Corrupt(f"{self.uri}/{key}: {found:,} bytes of {size:,} were received")

    def _read_range(self, key: str, begin: int, end: int, **options: Any) -> bytes:
        seconds = timeout_seconds(end - begin)
        return bytes(self._request("cat_file", self._path(key), start=begin, end=end, seconds=seconds, **options))

    def _put(self, path: str, data: bytes, **options: str) -> None:
        self._request("pipe_file", path, data, seconds=timeout_seconds(len(data)), **options)

    def _request(self, method: str, *arguments: Any, seconds: float, **options: Any) -> Any:
        """Return the result of a method of the client. Raise TimeoutError after this many seconds."""
        call = getattr(self.fs, method)
        if self.fs.async_impl:
            return call(*arguments, timeout=seconds, **options)
        return within(seconds, lambda: call(*arguments, **options))

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"

    def _info(self, key: str, version: str | None = None, size: int | None = None) -> dict[str, Any]:
        return with_retry(lambda: self._info_once(key, version, size))

    def _info_once(self, key: str, version: str | None, size: int | None) -> dict[str, Any]:
        """Look up a file. Raise Changed unless it has this version, Corrupt unless it has this size."""
        self.fs.invalidate_cache()  # the Hub's file system caches listings whatever its options
        info: dict[str, Any] = self._request("info", self._path(key), seconds=timeout_seconds(0))
        if info["type"] != "file":
            raise NotRegular(f"{self.uri}/{key} is not a file")
        self._check_version(key, version_of(info), version)
        self._check_size(key, info["size"], size)
        return info

    def _ranged(self, key: str, size: int, fetch: Callable[[int, int], bytes]) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(RangedFile(f"{self.uri}/{key}", size, fetch), READ_AHEAD_BYTES))

    def _files(self, folder: str, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        self.fs.invalidate_cache()
        try:
            found = with_retry(lambda: self._request("ls", folder, detail=True, seconds=MAX_LISTING_SECONDS))
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
    """A seekable file of `size` bytes. Each read is one request, `fetch(begin, end)`, whose errors name the URI.

    `fetch` returns all bytes from `begin` to `end`, or raises.
    """

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
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._read(self._size)

    def _read(self, count: int) -> bytes:
        begin, end = self._position, min(self._size, self._position + count)
        if end <= begin:
            return b""
        with translated_errors(self._uri, "reading"):
            data = self._fetch(begin, end)
        self._position = end
        return data


def stamp_of(entry: Entry) -> str:
    """Return what tells whether an object is the one that was seen before."""
    return f"{entry.size}-{entry.version}"


_BARE_VERSION = re.compile(r"\d+-[\d.]*")  # what `version_of` makes of a size and a time


def version_of(info: dict[str, Any]) -> str:
    """Return the generation (Google), ETag (S3, Azure) or digest (Hugging Face); else size and modification time."""
    for name in ("generation", "ETag", "etag", "xet_hash", "blob_id"):
        if info.get(name):
            return str(info[name]).strip('"')
    times = (info.get(name) for name in ("mtime", "last_modified", "LastModified", "created"))
    time = next((time for time in times if time), "") or _header_time(info.get("Last-Modified"))
    # Some file systems return a number in listings and a datetime in look-ups.
    return f"{info['size']}-{time.timestamp() if isinstance(time, datetime) else time}"


def _header_time(header: str | None) -> datetime | str:
    """Return the time in a header of a web server, "" if it has none or it cannot be parsed."""
    try:
        return parsedate_to_datetime(header) if header else ""
    except ValueError:
        return ""
