"""A folder on a local disk or in an object store. All reads and writes go through `Store`, by key.

A `Folder` is one folder of one kind of store. It raises the errors of its client, which `Store` translates. Each of its
requests goes through `with_retry` and may be repeated: an object written by an earlier attempt of the same call counts
as written by the call. Keys are relative to the folder, with `/` between names. They are never parsed as URIs.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, BinaryIO, TypeAlias, TypeVar

import fsspec

from pipeline.storage.entry import TEMPORARY_PREFIX, Entry
from pipeline.storage.errors import AccessError, Missing, NotRegular, StorageError, translated_errors
from pipeline.storage.fsspec_folder import FsspecFolder
from pipeline.storage.left_out import LeaveOut, Reason, ignore_left_out
from pipeline.storage.local_folder import LocalFolder
from pipeline.storage.schemes import READABLE, is_web, require_known, require_writable
from pipeline.storage.uris import normalise_uri, split_scheme

T = TypeVar("T")
Folder: TypeAlias = LocalFolder | FsspecFolder
_PACKAGES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "az": ("adlfs", "azure")}
_PACKAGES |= {"abfs": _PACKAGES["az"], "abfss": _PACKAGES["az"]}


class Store:
    """A folder by its URI: a local path, or a URI that fsspec supports. Small to pickle; connects on first use.

    `single_writer`: no other run writes to it, so `put_if_absent` may look up the key and then put.
    Every method retries transient errors for about two minutes. Raises AccessError at once if permission or credentials
    are missing, and otherwise StorageError or one of its subclasses.
    """

    def __init__(self, uri: str, *, single_writer: bool = False) -> None:
        self.uri = normalise_uri(uri)
        self.single_writer = single_writer
        self._connected: tuple[int, Folder] | None = None

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _shared, (self.uri, self.single_writer)

    @property
    def _folder(self) -> Folder:
        if self._connected is None or self._connected[0] != os.getpid():  # connections do not survive a fork
            self._connected = os.getpid(), _connect(self.uri)
        return self._connected[1]

    def uri_of(self, key: str) -> str:
        """Return the key's URI for messages and columns. It cannot be parsed: a key may hold any character."""
        return f"{self.uri.rstrip('/')}/{key}"

    def entries(self, prefix: str = "", leave_out: LeaveOut = ignore_left_out) -> Iterator[Entry]:
        """List the objects whose keys start with the prefix, in byte order of keys. Listings are not cached.

        leave_out: called for what is no object: dangling links, link loops, devices, folder markers, temporary files.
        """
        for entry in self._listed(prefix, lambda: self._folder.entries(prefix, leave_out)):
            if entry.key.startswith(TEMPORARY_PREFIX):
                leave_out(entry.key, Reason.HIDDEN)
            else:
                yield entry

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List the keys that start with the prefix, in byte order. Cheaper than `entries` on a local disk."""
        listed = self._listed(prefix, lambda: self._folder.keys(prefix))
        return (key for key in listed if not key.startswith(TEMPORARY_PREFIX))

    def stamps(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """List (key, stamp) of the objects whose keys start with the prefix, in byte order of keys.

        The stamp tells, without reading it, whether an object is the one that was seen before: size and modification
        time of a local file, size and version of an object in a store.
        """
        listed = self._listed(prefix, lambda: self._folder.stamps(prefix))
        return (each for each in listed if not each[0].startswith(TEMPORARY_PREFIX))

    def _listed(self, prefix: str, listing: Callable[[], Iterator[T]]) -> Iterator[T]:
        """Yield the items of a listing. Errors and waits are those of the listing, not of the code between items."""
        block = translated_errors(self.uri_of(prefix), "listing")
        found: Iterator[T] | None = None
        while True:
            with block:
                found = found or listing()
                item = next(found, None)
            if item is None:
                return
            yield item

    def read(self, key: str, *, version: str | None = None, size: int | None = None) -> bytes:
        """Return the whole content. Missing if there is none, Changed if it has another version than `version`.

        size: as planned, which bounds the time. Corrupt if this version is said to be shorter, again and again.
        """
        with translated_errors(self.uri_of(key), "reading"):
            return self._folder.read(key, version, size)

    def read_start(self, key: str, size: int) -> bytes:
        """Return the first `size` bytes of a file that is not empty, fewer if it has fewer, by one ranged request."""
        with translated_errors(self.uri_of(key), "reading"):
            return self._folder.read_start(key, size)

    def open(self, key: str, *, version: str | None = None, size: int | None = None) -> BinaryIO:
        """Return a seekable file, read by ranged requests.

        Its reads raise Changed if the content was replaced in S3, on a web server, or in place on a local disk.

        If the planned `version` is given: Missing if the file is gone, Changed if it has another version, Corrupt if
        it is said to have another size than `size` in this version.
        """
        try:
            with translated_errors(self.uri_of(key), "opening"):
                return self._folder.open(key, version, size)
        except Missing as error:
            if version is None or isinstance(error, NotRegular):
                raise
            raise Missing(f"{self.uri_of(key)} was deleted after it was planned") from None

    def size(self, key: str) -> int:
        """Return the size in bytes. Missing if there is no object."""
        with translated_errors(self.uri_of(key), "looking up"):
            return self._folder.size(key)

    def stamp(self, key: str) -> str:
        """Return the stamp of an object, as `stamps` lists it. Missing if there is no object."""
        with translated_errors(self.uri_of(key), "looking up"):
            return self._folder.stamp(key)

    def entry(self, key: str) -> Entry:
        """Return the size and the version of an object as a listing has them. Missing if there is no object."""
        with translated_errors(self.uri_of(key), "looking up"):
            return self._folder.entry(key)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write the content atomically unless the key exists. Return whether this call created it."""
        with translated_errors(self.uri_of(key), f"writing {len(data)} bytes to"):
            if not self.single_writer:
                return self._folder.put_if_absent(key, data)
            try:
                self._folder.size(key)
            except (Missing, FileNotFoundError):
                self._folder.put(key, data)
                return True
            return False

    def put(self, key: str, data: bytes) -> None:
        """Write the content, replacing any other: a reader sees the old or the new content."""
        with translated_errors(self.uri_of(key), f"writing {len(data)} bytes to"):
            self._folder.put(key, data)

    def delete(self, key: str) -> None:
        """Delete the object if there is one."""
        with translated_errors(self.uri_of(key), "deleting"):
            self._folder.delete(key)

    def remove_empty_folders(self) -> None:
        """Remove the folders in `_run/` that hold no file. Only local disks have such folders."""
        with translated_errors(self.uri_of("_run/"), "cleaning"):
            self._folder.remove_empty_folders()

    def check_writable(self) -> None:
        """Raise AccessError unless this can be an OUTPUT: it is writable, and a second put_if_absent is refused."""
        require_writable(self.uri)
        key = f"{TEMPORARY_PREFIX}probe-{uuid.uuid4().hex}"
        try:
            try:
                created = self.put_if_absent(key, b"first"), self.put_if_absent(key, b"second")
                found = self.read(key)
            finally:
                self.delete(key)
                self.remove_empty_folders()
        except StorageError as error:
            if error.transient:
                raise
            raise AccessError(f"{self.uri} cannot be written to: {error}") from None
        if created != (True, False) or found != b"first":
            raise AccessError(
                f"{self.uri} does not support conditional writes: a second write to the same file was not refused, so "
                "two attempts could overwrite each other. Use another store, or --single-writer if no other process "
                "writes there"
            )


@lru_cache(maxsize=16)
def _shared(uri: str, single_writer: bool) -> Store:
    """Return the Store that all unpickled copies in a process share: a task per shard must not connect each time."""
    return Store(uri, single_writer=single_writer)


def _connect(uri: str) -> Folder:
    scheme, _ = split_scheme(uri)
    if scheme is None:
        return LocalFolder(uri)
    require_known(uri)
    try:
        kind = _class_of(uri, scheme)
    except ImportError:
        package, extra = _PACKAGES.get(scheme, (f"that fsspec uses for {scheme}://", None))
        hint = f": pip install 'perceiver-pipeline[{extra}]'" if extra else ""
        raise AccessError(f"{uri} needs the package {package}{hint}") from None
    try:
        fs = kind(use_listings_cache=False, skip_instance_cache=True, **kind._get_kwargs_from_urls(uri))
    except (TypeError, ValueError) as error:  # a file system that needs arguments besides the URI
        raise AccessError(f"{uri}: {scheme}:// cannot be opened ({error}); use {READABLE}") from None
    if scheme == "s3":
        from pipeline.storage.s3_folder import S3Folder

        return S3Folder(fs, kind._strip_protocol(uri), uri)
    return FsspecFolder(fs, kind._strip_protocol(uri), uri)


def _class_of(uri: str, scheme: str) -> Any:
    """Return fsspec's class of a file system. ImportError if the package that it needs is not installed."""
    if is_web(uri):
        from pipeline.storage.web_server import WebFileSystem

        return WebFileSystem
    return fsspec.get_filesystem_class(scheme)
