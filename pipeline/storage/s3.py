"""A folder of an S3 bucket. Requests name bucket and key themselves, so no key is taken apart, whatever it holds."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO

from fsspec.asyn import sync

from pipeline.storage.base import Entry
from pipeline.storage.errors import Changed, http_status
from pipeline.storage.objects import ObjectFolder

# Seconds that a request may take with all its client's retries, and bytes a second that it may be slow by: a PUT that
# waits for the store's "100 Continue" has no other end.
PATIENCE = 300.0
SLOWEST = 1 << 19


class S3Folder(ObjectFolder):
    """A folder of a bucket by s3fs: listed by pages, read by ETag, written by one conditional PUT (5 GiB at most)."""

    def __init__(self, fs: Any, root: str, uri: str) -> None:
        super().__init__(fs, root, uri)
        self.bucket, prefix, _ = fs.split_path(root)
        self.prefix = f"{prefix}/" if prefix else ""

    def entries(self, prefix: str) -> Iterator[Entry]:
        for item in self._items(prefix):
            key = item["Key"][len(self.prefix) :]
            if item["Size"] or not (key.endswith("/") or key == ""):  # consoles mark empty folders so
                yield Entry(key=key, size=item["Size"], version=item["ETag"].strip('"'))

    def names(self, prefix: str) -> Iterator[str]:
        return (entry.key for entry in self.entries(prefix))

    def read(self, key: str, version: str | None) -> bytes:
        condition = {} if version is None else {"IfMatch": f'"{version}"'}
        try:
            data, found = self._get(key, **condition)
        except OSError as error:
            if http_status(error) != 412:
                raise
            raise Changed(f"{self.uri}/{key} is no longer {version}") from None
        if version not in (None, found):  # a store that does not know the condition
            raise Changed(f"{self.uri}/{key} is now {found}, not {version}")
        return data

    def open(self, key: str) -> BinaryIO:
        head = self._call("head_object", key)

        def fetch(begin: int, end: int) -> bytes:
            try:
                return self._get(key, Range=f"bytes={begin}-{end - 1}", IfMatch=head["ETag"])[0]
            except OSError as error:
                if http_status(error) != 412:
                    raise
                raise Changed(f"{self.uri}/{key} changed while it was read") from None

        return self._ranged(key, head["ContentLength"], fetch)

    def size(self, key: str) -> int:
        return int(self._call("head_object", key)["ContentLength"])

    def put_if_absent(self, key: str, data: bytes) -> bool:
        attempt = uuid.uuid4().hex
        try:
            self._call("put_object", key, Body=data, IfNoneMatch="*", Metadata={"attempt": attempt})
        except Exception as error:
            # Clients ask again by themselves after a lost acknowledgement, and then find their own object.
            if self._attempt(key) == attempt:
                return True
            if http_status(error) != 412:
                raise
            return False
        return True

    def put(self, key: str, data: bytes) -> None:
        self._call("put_object", key, Body=data)

    def delete(self, key: str) -> None:
        self._call("delete_object", key)

    def _attempt(self, key: str) -> str | None:
        """Which attempt made the object, None where that cannot be told."""
        try:
            metadata: dict[str, str] = self._call("head_object", key)["Metadata"]
        except Exception:  # noqa: BLE001 - the error of the PUT is the one to tell
            return None
        return metadata.get("attempt")

    def _get(self, key: str, **conditions: str) -> tuple[bytes, str]:
        """(content, ETag) by one GET."""
        answer = self._call("get_object", key, **conditions)
        try:
            return sync(self.fs.loop, answer["Body"].read), answer["ETag"].strip('"')
        finally:
            answer["Body"].close()

    def _call(self, method: str, key: str, **arguments: Any) -> dict[str, Any]:
        patience = PATIENCE + len(arguments.get("Body", b"")) / SLOWEST
        arguments |= {"Bucket": self.bucket, "Key": self.prefix + key}
        answer: dict[str, Any] = self.fs.call_s3(method, timeout=patience, **arguments)
        return answer

    def _items(self, prefix: str) -> Iterator[dict[str, Any]]:
        """What the bucket lists, a page of up to 1,000 in memory at a time."""
        following: dict[str, str] = {}
        while True:
            arguments = {"Bucket": self.bucket, "Prefix": self.prefix + prefix, **following}
            page = self.fs.call_s3("list_objects_v2", timeout=PATIENCE, **arguments)
            yield from page.get("Contents", ())
            if not page.get("IsTruncated"):
                return
            following = {"ContinuationToken": page["NextContinuationToken"]}
