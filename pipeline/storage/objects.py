"""A folder of any file system that fsspec knows: what Google and Azure stores and the Hugging Face hub are read by."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime
from typing import Any, BinaryIO, cast

from pipeline.storage.base import Entry, RangedFile
from pipeline.storage.errors import Changed, Missing, explained

READ_AHEAD = 1 << 20  # bytes of the smallest ranged request


class ObjectFolder:
    """A folder `root` of the fsspec file system `fs`, whose `mode="create"` must be atomic for `put_if_absent` to be.

    It is listed folder by folder, each in memory while it is listed.
    """

    def __init__(self, fs: Any, root: str, uri: str) -> None:
        self.fs, self.root, self.uri = fs, root, uri

    def entries(self, prefix: str) -> Iterator[Entry]:
        for key, info in self._files(self.root, prefix):
            yield Entry(key=key, size=int(info["size"]), version=version_of(info))

    def names(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in self._files(self.root, prefix))

    def read(self, key: str, version: str | None) -> bytes:
        data = bytes(self.fs.cat_file(self._path(key)))
        # Asked afterwards: a version that is there still was there while it was read.
        found = version and version_of(self._info(key))
        if found != version:
            raise Changed(f"{self.uri}/{key} is now {found}, not {version}")
        return data

    def open(self, key: str) -> BinaryIO:
        path, size = self._path(key), self.size(key)
        return self._ranged(key, size, lambda begin, end: self.fs.cat_file(path, start=begin, end=end))

    def size(self, key: str) -> int:
        return int(self._info(key)["size"])

    def put_if_absent(self, key: str, data: bytes) -> bool:
        try:
            self.fs.pipe_file(self._path(key), data, mode="create")
        except FileExistsError:
            # The client may have asked again after its own, lost acknowledgement: then the content is ours.
            return bool(self.fs.cat_file(self._path(key)) == data)
        return True

    def put(self, key: str, data: bytes) -> None:
        self.fs.pipe_file(self._path(key), data)

    def delete(self, key: str) -> None:
        try:
            self.fs.rm_file(self._path(key))
        except FileNotFoundError:
            return  # which is what was asked for

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"

    def _info(self, key: str) -> dict[str, Any]:
        self.fs.invalidate_cache()  # the hub's file system keeps listings whatever it is told
        info: dict[str, Any] = self.fs.info(self._path(key))
        if info["type"] != "file":
            raise Missing(f"{self.uri}/{key} is not a file")
        return info

    def _ranged(self, key: str, size: int, fetch: Any) -> BinaryIO:
        def explain(begin: int, end: int) -> bytes:
            with explained(f"{self.uri}/{key}", "reading"):
                return bytes(fetch(begin, end))

        return cast(BinaryIO, io.BufferedReader(RangedFile(size, explain), READ_AHEAD))

    def _files(self, folder: str, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        self.fs.invalidate_cache()
        try:
            found = self.fs.ls(folder, detail=True)
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


def version_of(info: dict[str, Any]) -> str:
    """What changes with the content: generation (Google), ETag (S3, Azure), digest (the hub); else size and time."""
    for name in ("generation", "ETag", "etag", "xet_hash", "blob_id"):
        if info.get(name):
            return str(info[name]).strip('"')
    times = (info.get(name) for name in ("mtime", "last_modified", "LastModified", "created"))
    time = next((time for time in times if time), "")
    # Some file systems list numbers and look up datetimes.
    return f"{info['size']}-{time.timestamp() if isinstance(time, datetime) else time}"
