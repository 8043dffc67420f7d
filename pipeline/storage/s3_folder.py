"""A folder of an S3 bucket. Requests name bucket and key themselves, so no key is taken apart, whatever it holds."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any, BinaryIO

from aiobotocore.session import AioSession
from botocore.utils import parse_timestamp
from fsspec.asyn import sync

from pipeline.storage.errors import Changed, StorageError, http_status
from pipeline.storage.folder import Entry
from pipeline.storage.fsspec_folder import FsspecFolder, timeout_seconds
from pipeline.storage.retry import with_retry

CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0  # seconds to connect, and between two signs of life of an answer


class S3Folder(FsspecFolder):
    """A folder of a bucket by s3fs: listed by pages, read by ETag, written by one conditional PUT (5 GiB at most)."""

    def __init__(self, fs: Any, root: str, uri: str) -> None:
        super().__init__(fs, root, uri)
        self.bucket, prefix, _ = fs.split_path(root)
        self.prefix = f"{prefix}/" if prefix else ""
        # They ask once: `with_retry` asks again. Only aiohttp does too, once and at once, where a connection is lost.
        fs.retries = 1
        once = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS, "retries": {"total_max_attempts": 1}}
        fs.config_kwargs = once | fs.config_kwargs  # what the user configured for fsspec is theirs to choose
        fs.session = fs.session or AioSession(**fs.kwargs)  # as s3fs makes one when it connects
        answers = fs.session.get_component("response_parser_factory")
        answers.set_parser_defaults(timestamp_parser=parse_time)

    def entries(self, prefix: str) -> Iterator[Entry]:
        for item in self._items(prefix):
            key = item["Key"][len(self.prefix) :]
            if item["Size"] or not (key.endswith("/") or key == ""):  # consoles mark empty folders so
                yield Entry(key=key, size=item["Size"], version=item["ETag"].strip('"'))

    def keys(self, prefix: str) -> Iterator[str]:
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
        attempt = uuid.uuid4().hex  # the same in every try: one whose answer was lost has put what a later one finds
        try:
            self._call("put_object", key, Body=data, IfNoneMatch="*", Metadata={"attempt": attempt})
        except OSError as error:
            if http_status(error) != 412:
                raise
            return self._attempt(key) == attempt
        return True

    def put(self, key: str, data: bytes) -> None:
        self._call("put_object", key, Body=data)

    def delete(self, key: str) -> None:
        self._call("delete_object", key)

    def _attempt(self, key: str) -> str | None:
        """Which attempt made the object, None where it was none of ours."""
        try:
            metadata: dict[str, str] = self._call("head_object", key)["Metadata"]
        except FileNotFoundError:
            raise StorageError(f"{self.uri}/{key} was there and is gone", transient=True) from None
        return metadata.get("attempt")

    def _get(self, key: str, **conditions: str) -> tuple[bytes, str]:
        """(content, ETag) by one GET."""

        def get() -> tuple[bytes, str]:
            answer = self._once("get_object", self._object(key) | conditions)
            return sync(self.fs.loop, _whole, answer["Body"]), answer["ETag"].strip('"')

        return with_retry(get)

    def _call(self, method: str, key: str, **arguments: Any) -> dict[str, Any]:
        return with_retry(lambda: self._once(method, self._object(key) | arguments))

    def _object(self, key: str) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": self.prefix + key}

    def _once(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request, without its body."""
        seconds = timeout_seconds(len(arguments.get("Body", b"")))
        answer: dict[str, Any] = self.fs.call_s3(method, timeout=seconds, **arguments)
        return answer

    def _items(self, prefix: str) -> Iterator[dict[str, Any]]:
        """What the bucket lists, a page of up to 1,000 in memory at a time."""
        following: dict[str, str] = {}
        while True:
            arguments = {"Bucket": self.bucket, "Prefix": self.prefix + prefix, **following}
            page = with_retry(functools.partial(self._once, "list_objects_v2", arguments))
            yield from page.get("Contents", ())
            if not page.get("IsTruncated"):
                return
            following = {"ContinuationToken": page["NextContinuationToken"]}


def parse_time(text: Any) -> datetime:
    """What botocore makes of a time in an answer; of one as in listings at once, where it tries every way that there is
    to write times, which is most of what a listing takes."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return parse_timestamp(text)


async def _whole(body: Any) -> bytes:
    """What is left of an answer's body, which is closed where its connection lives: in the client's own thread."""
    try:
        content: bytes = await body.read()
        return content
    finally:
        body.close()
