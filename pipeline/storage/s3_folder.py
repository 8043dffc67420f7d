"""A folder of an S3 bucket. Requests name bucket and key separately, so that no key is parsed, whatever it holds."""

import functools
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any, BinaryIO

from aiobotocore.session import AioSession
from botocore.loaders import Loader, create_loader
from botocore.utils import parse_timestamp
from fsspec.asyn import sync

from pipeline.storage.entry import Entry
from pipeline.storage.errors import Changed, StorageError, http_status
from pipeline.storage.fsspec_folder import FsspecFolder, timeout_seconds
from pipeline.storage.left_out import LeaveOut, Reason, ignore_left_out
from pipeline.storage.retry import with_retry

CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0  # time limits for connecting, and between two packets of a response


class S3Folder(FsspecFolder):
    """A folder of a bucket, through s3fs: listed by pages, read by ETag, written by one conditional PUT (≤ 5 GiB)."""

    def __init__(self, fs: Any, root: str, uri: str) -> None:
        super().__init__(fs, root, uri)
        self.bucket, prefix, _ = fs.split_path(root)
        self.prefix = f"{prefix}/" if prefix else ""
        # One attempt per request: `with_retry` retries. Only aiohttp does too, once, after a lost connection.
        fs.retries = 1
        once = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS, "retries": {"total_max_attempts": 1}}
        fs.config_kwargs = once | fs.config_kwargs  # the user's fsspec configuration takes precedence
        fs.session = fs.session or AioSession(**fs.kwargs)  # as s3fs creates it when it connects
        fs.session.register_component("data_loader", _loader(fs.session.get_config_variable("data_path")))
        fs.session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_time)

    def entries(self, prefix: str, leave_out: LeaveOut = ignore_left_out) -> Iterator[Entry]:
        for item in self._items(prefix):
            key = item["Key"][len(self.prefix) :]
            if item["Size"] or not (key.endswith("/") or key == ""):  # such an empty object marks a folder in consoles
                yield Entry(key=key, size=item["Size"], version=item["ETag"].strip('"'))
            else:
                leave_out(key or "./", Reason.FOLDER_MARKER)

    def keys(self, prefix: str) -> Iterator[str]:
        return (entry.key for entry in self.entries(prefix))

    def read(self, key: str, version: str | None) -> bytes:
        condition = {} if version is None else {"IfMatch": f'"{version}"'}
        data, found = self._get(key, f"changed: its version is no longer {version}", **condition)
        if version not in (None, found):  # the store does not support the condition
            raise Changed(f"{self.uri}/{key} changed: its version is {found}, expected {version}")
        return data

    def read_start(self, key: str, size: int) -> bytes:
        return self._get(key, "changed", Range=f"bytes=0-{size - 1}")[0]

    def open(self, key: str) -> BinaryIO:
        head = self._call("head_object", key)

        def fetch(begin: int, end: int) -> bytes:
            requested = f"bytes={begin}-{end - 1}"
            return self._get(key, "changed while it was read", Range=requested, IfMatch=head["ETag"])[0]

        return self._ranged(key, head["ContentLength"], fetch)

    def size(self, key: str) -> int:
        return int(self._call("head_object", key)["ContentLength"])

    def entry(self, key: str) -> Entry:
        head = self._call("head_object", key)
        return Entry(key=key, size=int(head["ContentLength"]), version=head["ETag"].strip('"'))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        attempt = uuid.uuid4().hex  # stored with the object: identifies our own after a lost response
        try:
            self._call("put_object", key, Body=data, IfNoneMatch="*", Metadata={"attempt": attempt})
        except OSError as error:
            if http_status(error) != 412:
                raise
            try:
                return bool(self._call("head_object", key)["Metadata"].get("attempt") == attempt)
            except FileNotFoundError:
                raise StorageError(f"{self.uri}/{key} was deleted during the write", transient=True) from None
        return True

    def put(self, key: str, data: bytes) -> None:
        self._call("put_object", key, Body=data)

    def delete(self, key: str) -> None:
        self._call("delete_object", key)

    def _get(self, key: str, change: str, **conditions: str) -> tuple[bytes, str]:
        """Return (content, ETag) from one GET. Raise Changed, with the words `change`, if a condition is not met."""

        def get() -> tuple[bytes, str]:
            response = self._call_once("get_object", Key=self.prefix + key, **conditions)
            return sync(self.fs.loop, _read_body, response["Body"]), response["ETag"].strip('"')

        try:
            return with_retry(get)
        except OSError as error:
            if http_status(error) != 412:
                raise
            raise Changed(f"{self.uri}/{key} {change}") from None

    def _call(self, method: str, key: str, **arguments: Any) -> dict[str, Any]:
        return with_retry(lambda: self._call_once(method, Key=self.prefix + key, **arguments))

    def _call_once(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Return the response to one request; its body is not read yet."""
        seconds = timeout_seconds(len(arguments.get("Body", b"")))
        # `req_kw` tells that the requester pays; methods that do not take it are called without it.
        return self.fs.call_s3(method, self.fs.req_kw, Bucket=self.bucket, timeout=seconds, **arguments)

    def _items(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Yield what the bucket lists; one page of up to 1,000 items is in memory at a time."""
        arguments = {"Prefix": self.prefix + prefix}
        while True:
            page = with_retry(functools.partial(self._call_once, "list_objects_v2", **arguments))
            yield from page.get("Contents", ())
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]


@functools.cache
def _loader(data_path: str | None) -> Loader:
    """Return what reads botocore's descriptions of services, once for all sessions: most of the time to connect."""
    return create_loader(data_path)


def parse_time(text: Any) -> datetime:
    """Parse a time in a response as botocore does, but ISO 8601 first.

    botocore tries many formats before it, which took most of the time of a listing.
    """
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return parse_timestamp(text)


async def _read_body(body: Any) -> bytes:
    """Read the rest of a body and close it, in the thread that owns its connection."""
    try:
        return await body.read()
    finally:
        body.close()
