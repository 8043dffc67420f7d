"""A folder of an S3 bucket. Requests name bucket and key separately, so that no key is parsed, whatever it holds."""

import functools
import uuid
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from aiobotocore.session import AioSession
from botocore.loaders import Loader, create_loader
from fsspec.asyn import sync

from pipeline.storage.entry import Entry
from pipeline.storage.errors import Changed, StorageError, http_status
from pipeline.storage.fsspec_folder import FsspecFolder
from pipeline.storage.left_out import LeaveOut, Reason, ignore_left_out
from pipeline.storage.retry import with_retry
from pipeline.storage.s3_answers import REQUIRED, check_page, check_range, check_required, check_whole, read_body
from pipeline.storage.s3_parser import use_fast_parser
from pipeline.storage.time_limits import timeout_seconds

MAX_EMPTY_PAGES = 1000  # in a row: a store may give some for keys that were deleted
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
        use_fast_parser(fs.session)

    def entries(self, prefix: str, leave_out: LeaveOut = ignore_left_out) -> Iterator[Entry]:
        for item in self._items(prefix):
            key = item["Key"][len(self.prefix) :]
            if item["Size"] or not (key.endswith("/") or key == ""):  # such an empty object marks a folder in consoles
                yield Entry(key=key, size=item["Size"], version=item["ETag"].strip('"'))
            else:
                leave_out(key or "./", Reason.FOLDER_MARKER)

    def keys(self, prefix: str) -> Iterator[str]:
        return (entry.key for entry in self.entries(prefix))

    def read(self, key: str, version: str | None, size: int | None = None) -> bytes:
        condition = {} if version is None else {"IfMatch": f'"{version}"'}

        def get() -> bytes:
            answer, data = self._get(key, version, **condition)
            is_checked = check_whole(answer, data, self.bucket, f"{self.uri}/{key}")
            if size is None and not is_checked:
                self._check_size(key, len(data), self._entry_once(key, answer["ETag"].strip('"'), None).size)
            self._check_size(key, len(data), size)
            return data

        return self._unchanged(get, key, f"changed: its version is no longer {version}")

    def read_start(self, key: str, size: int) -> bytes:
        return self._get_range(key, 0, size)

    def open(self, key: str, version: str | None = None, size: int | None = None) -> BinaryIO:
        found = with_retry(lambda: self._entry_once(key, version, size))

        def fetch(begin: int, end: int) -> bytes:
            return self._get_range(key, begin, end, found)

        return self._ranged(key, found.size, fetch)

    def entry(self, key: str) -> Entry:
        return with_retry(lambda: self._entry_once(key, None, None))

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

    def _entry_once(self, key: str, version: str | None, size: int | None) -> Entry:
        """Look up an object. Raise Changed unless it has this version, Corrupt unless it has this size."""
        head = self._call_once("head_object", Key=self.prefix + key)
        found = Entry(key=key, size=int(head["ContentLength"]), version=head["ETag"].strip('"'))
        self._check_version(key, found.version, version)
        self._check_size(key, found.size, size)
        if not found.size:  # then nothing of it is read, and nothing else is checked
            check_whole(head, b"", self.bucket, f"{self.uri}/{key}")
        return found

    def _get_range(self, key: str, begin: int, end: int, opened: Entry | None = None) -> bytes:
        """Return a range of the content, all of it if it is of an object that was opened."""
        version = None if opened is None else opened.version
        condition = {} if version is None else {"IfMatch": f'"{version}"'}

        def get() -> bytes:
            answer, data = self._get(key, version, Range=f"bytes={begin}-{end - 1}", **condition)
            check_range(answer, begin, end, data, f"{self.uri}/{key}", size=None if opened is None else opened.size)
            if opened is not None and len(data) == opened.size:
                check_whole(answer, data, self.bucket, f"{self.uri}/{key}")
            return data

        return self._unchanged(get, key, "changed while it was read")

    def _get(self, key: str, version: str | None, **arguments: str) -> tuple[dict[str, Any], bytes]:
        """Return the response to one GET and its body. Raise Changed if it is of another version."""
        answer = self._call_once("get_object", Key=self.prefix + key, **arguments)
        data = sync(self.fs.loop, read_body, answer["Body"], f"{self.uri}/{key}")
        check_required(answer, ("ETag",), f"{self.uri}/{key}")
        self._check_version(key, answer["ETag"].strip('"'), version)  # the store may not support the condition
        return answer, data

    def _unchanged(self, get: Callable[[], bytes], key: str, change: str) -> bytes:
        """Return the result of requests. Raise Changed, with the words `change`, if their condition is not met."""
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
        answer = self.fs.call_s3(method, self.fs.req_kw, Bucket=self.bucket, timeout=seconds, **arguments)
        if method in REQUIRED:
            check_required(answer, REQUIRED[method], f"{self.uri}/{arguments.get('Key', '').removeprefix(self.prefix)}")
        return cast(dict[str, Any], answer)

    def _items(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Yield what the bucket lists; one page of up to 1,000 items is in memory at a time.

        Keys ascend within a page and from page to page, so a listing that repeats itself ends as an error.
        """
        arguments, last, empty = {"Prefix": self.prefix + prefix}, "", 0
        while empty <= MAX_EMPTY_PAGES:
            page = with_retry(functools.partial(self._page, last, **arguments))
            yield from (items := page.get("Contents", ()))
            if not page["IsTruncated"]:
                return
            last, empty = (items[-1]["Key"], 0) if items else (last, empty + 1)
            arguments["ContinuationToken"] = page["NextContinuationToken"]
        raise StorageError(f"the listing of {self.uri} does not end: after {last!r}, {empty:,} pages have no keys")

    def _page(self, last: str, **arguments: str) -> dict[str, Any]:
        """Return a page of a listing, whose keys come after `last`."""
        page = self._call_once("list_objects_v2", **arguments)
        check_page(page, arguments["Prefix"], last, arguments.get("ContinuationToken"), self.bucket, self.uri)
        return page


@functools.cache
def _loader(data_path: str | None) -> Loader:
    """Return what reads botocore's descriptions of services, once for all sessions: most of the time to connect."""
    return create_loader(data_path)
