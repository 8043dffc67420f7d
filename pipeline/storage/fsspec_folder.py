"""A folder of any file system that fsspec knows: what Google and Azure stores and the Hugging Face hub are read by."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, BinaryIO, cast

from pipeline.storage.errors import Changed, Missing, translated_errors
from pipeline.storage.folder import Entry, RangedFile
from pipeline.storage.retry import with_retry

READ_AHEAD_BYTES = 1 << 20  # bytes of the smallest ranged request
# Seconds that a request may take until its answer begins, and bytes a second that it may be slow by: a client may ask
# again by itself for minutes, and S3's PUT that waits for a "100 Continue" has no other end.
MAX_LATENCY_SECONDS = 40.0
MIN_BYTES_PER_SECOND = 1 << 17


class FsspecFolder:
    """A folder `root` of the fsspec file system `fs`, whose `mode="create"` must be atomic for `put_if_absent` to be.

    It is listed folder by folder, each in memory while it is listed.
    """

    def __init__(self, fs: Any, root: str, uri: str) -> None:
        self.fs, self.root, self.uri = fs, root, uri

    def entries(self, prefix: str) -> Iterator[Entry]:
        for key, listed in self._files(self.root, prefix):
            with suppress(FileNotFoundError):  # deleted since it was listed
                info = self._info(key) if listed["size"] is None else listed  # web servers list names only
                yield Entry(key=key, size=int(info["size"] or 0), version=version_of(info))

    def keys(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in self._files(self.root, prefix))

    def read(self, key: str, version: str | None) -> bytes:
        data = self._fetch(self._path(key))
        # Asked afterwards: a version that is there still was there while it was read.
        found = version and version_of(self._info(key))
        if found != version:
            raise Changed(f"{self.uri}/{key} is now {found}, not {version}")
        return data

    def open(self, key: str) -> BinaryIO:
        path, size = self._path(key), self.size(key)
        return self._ranged(key, size, functools.partial(self._fetch, path))

    def size(self, key: str) -> int:
        return int(self._info(key)["size"])

    def put_if_absent(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        try:
            with_retry(lambda: self.fs.pipe_file(path, data, mode="create", **self._within(len(data))))
        except FileExistsError:
            # An earlier try may have put it, its acknowledgement lost: then the content is ours. So it is where another
            # puts the same, but all that is put here names who made it.
            return self._fetch(path) == data
        return True

    def put(self, key: str, data: bytes) -> None:
        with_retry(lambda: self.fs.pipe_file(self._path(key), data, **self._within(len(data))))

    def delete(self, key: str) -> None:
        try:
            with_retry(lambda: self.fs.rm_file(self._path(key), **self._within()))
        except FileNotFoundError:
            return  # which is what was asked for

    def _fetch(self, path: str, begin: int | None = None, end: int | None = None) -> bytes:
        """A file's content, for as long as it comes, or a range of it."""
        within = {} if begin is None or end is None else self._within(end - begin)
        return with_retry(lambda: bytes(self.fs.cat_file(path, start=begin, end=end, **within)))

    def _within(self, size: int = 0) -> dict[str, float]:
        """How long a call that carries so many bytes may take, for the file systems that can be told."""
        return {"timeout": timeout_seconds(size)} if self.fs.async_impl else {}

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"

    def _info(self, key: str) -> dict[str, Any]:
        self.fs.invalidate_cache()  # the hub's file system keeps listings whatever it is told
        info: dict[str, Any] = with_retry(lambda: self.fs.info(self._path(key), **self._within()))
        if info["type"] != "file":
            raise Missing(f"{self.uri}/{key} is not a file")
        return info

    def _ranged(self, key: str, size: int, fetch: Callable[[int, int], bytes]) -> BinaryIO:
        def explain(begin: int, end: int) -> bytes:
            with translated_errors(f"{self.uri}/{key}", "reading"):
                return fetch(begin, end)

        return cast(BinaryIO, io.BufferedReader(RangedFile(size, explain), READ_AHEAD_BYTES))

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


def timeout_seconds(size: int) -> float:
    """Seconds that a request which carries so many bytes may take."""
    return MAX_LATENCY_SECONDS + size / MIN_BYTES_PER_SECOND


def version_of(info: dict[str, Any]) -> str:
    """What changes with the content: generation (Google), ETag (S3, Azure), digest (the hub); else size and time."""
    for name in ("generation", "ETag", "etag", "xet_hash", "blob_id"):
        if info.get(name):
            return str(info[name]).strip('"')
    times = (info.get(name) for name in ("mtime", "last_modified", "LastModified", "created"))
    time = next((time for time in times if time), "")
    # Some file systems list numbers and look up datetimes.
    return f"{info['size']}-{time.timestamp() if isinstance(time, datetime) else time}"
