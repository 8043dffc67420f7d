"""One folder of local disk or object storage: all that is read and written goes through here, by key."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import BinaryIO, TypeVar

import fsspec

from pipeline.storage.errors import AccessError, Missing, StorageError, translated_errors
from pipeline.storage.folder import TEMPORARY_PREFIX, Entry, Folder
from pipeline.storage.fsspec_folder import FsspecFolder
from pipeline.storage.local_folder import LocalFolder
from pipeline.storage.redaction import redact
from pipeline.storage.uris import normalise_uri, split_scheme

__all__ = ["Entry", "Store"]

T = TypeVar("T")
# Stores whose clients have an atomic put-if-absent.
CONDITIONAL_PUT_SCHEMES = frozenset({"s3", "gs", "az", "abfs", "abfss"})
_PACKAGES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "az": ("adlfs", "azure")}
_PACKAGES |= {"abfs": _PACKAGES["az"], "abfss": _PACKAGES["az"]}


class Store:
    """A folder by its URI: a local path, or what fsspec reads. Small to pickle; connects when it is first used.

    `single_writer` says that nobody else writes to it: then `put_if_absent` looks, and puts.
    Every method asks again after errors that pass, for about two minutes, and raises AccessError where permission or
    credentials lack, at once, and StorageError or one of its subclasses.
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
        if self._connected is None or self._connected[0] != os.getpid():  # a connection does not outlive a fork
            self._connected = os.getpid(), _connect(self.uri)
        return self._connected[1]

    def uri_of(self, key: str) -> str:
        """The key's URI for people; not to be parsed, for a key may hold any character."""
        return f"{self.uri.rstrip('/')}/{key}"

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Everything stored whose key starts with the prefix, in byte order of keys, listed anew."""
        listed = self._listed(prefix, lambda: self._folder.entries(prefix))
        return (entry for entry in listed if not entry.key.startswith(TEMPORARY_PREFIX))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys that start with the prefix, in byte order, listed anew."""
        listed = self._listed(prefix, lambda: self._folder.keys(prefix))
        return (key for key in listed if not key.startswith(TEMPORARY_PREFIX))

    def _listed(self, prefix: str, listing: Callable[[], Iterator[T]]) -> Iterator[T]:
        """What is listed, one by one: what is done between two of them is not the store's."""
        found: Iterator[T] | None = None
        while True:
            with translated_errors(self.uri_of(prefix), "listing"):
                found = found or listing()
                item = next(found, None)
            if item is None:
                return
            yield item

    def read(self, key: str, *, version: str | None = None) -> bytes:
        """The whole content. Missing if it is not there, Changed if `version` is given and is not what was read."""
        with translated_errors(self.uri_of(key), "reading"):
            return self._folder.read(key, version)

    def open(self, key: str) -> BinaryIO:
        """A seekable file, read by ranges; Changed where the store sees that the content was replaced meanwhile."""
        with translated_errors(self.uri_of(key), "opening"):
            return self._folder.open(key)

    def size(self, key: str) -> int:
        """The size in bytes; Missing if there is no file."""
        with translated_errors(self.uri_of(key), "looking up"):
            return self._folder.size(key)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Put the content unless there is one, whole and at once. True: this call created it; False: it was there."""
        with translated_errors(self.uri_of(key), f"writing {len(data)} bytes to"):
            if not self.single_writer:
                return self._folder.put_if_absent(key, data)
            return self._put_alone(key, data)

    def _put_alone(self, key: str, data: bytes) -> bool:
        try:
            self._folder.size(key)
        except (Missing, FileNotFoundError):
            self._folder.put(key, data)
            return True
        return False

    def put(self, key: str, data: bytes) -> None:
        """Put the content in place of any other: a reader sees the old one or the new one."""
        with translated_errors(self.uri_of(key), f"writing {len(data)} bytes to"):
            self._folder.put(key, data)

    def delete(self, key: str) -> None:
        """Delete the content, if there is one."""
        with translated_errors(self.uri_of(key), "deleting"):
            self._folder.delete(key)

    def check_writable(self) -> None:
        """AccessError unless this can be an OUTPUT: it can be written, and a second put if absent is refused."""
        scheme = split_scheme(self.uri)[0]
        if scheme is not None and scheme not in CONDITIONAL_PUT_SCHEMES:
            raise AccessError(f"{self.uri}: {scheme}:// cannot be written to; use a folder, s3://, gs:// or az://")
        key = f"{TEMPORARY_PREFIX}probe-{uuid.uuid4().hex}"
        try:
            try:
                created = self.put_if_absent(key, b"first"), self.put_if_absent(key, b"second")
                found = self.read(key)
            finally:
                self.delete(key)
        except StorageError as error:
            if error.transient:
                raise
            raise AccessError(f"{self.uri} cannot be written to: {error}") from None
        if created != (True, False) or found != b"first":
            raise AccessError(
                f"{self.uri} has no conditional put: a second put of one key was not refused, so two attempts could "
                "mix. Use another store, or say that no other run writes there: --single-writer"
            )


@lru_cache(maxsize=16)
def _shared(uri: str, single_writer: bool) -> Store:
    """One Store, with its connection, for all that reach a process by pickle: a task a shard must not connect anew."""
    return Store(uri, single_writer=single_writer)


def _connect(uri: str) -> Folder:
    scheme, _ = split_scheme(uri)
    if scheme is None:
        return LocalFolder(uri)
    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ImportError:
        package, extra = _PACKAGES.get(scheme, (f"the one that fsspec reads {scheme}:// with", None))
        hint = f": pip install 'perceiver-pipeline[{extra}]'" if extra else ""
        raise AccessError(f"{uri} needs the package {package}{hint}") from None
    except ValueError:
        raise AccessError(f"{redact(uri)}: fsspec knows no {scheme}://") from None
    fs = kind(use_listings_cache=False, skip_instance_cache=True, **kind._get_kwargs_from_urls(uri))
    if scheme == "s3":
        from pipeline.storage.s3_folder import S3Folder

        return S3Folder(fs, kind._strip_protocol(uri), uri)
    return FsspecFolder(fs, kind._strip_protocol(uri), uri)
