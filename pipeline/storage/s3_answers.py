"""Checks of the answers of an S3 store: that they are its own, whole, and in time.

Something between the store and this process, such as a proxy, may cut a body and its length, give an earlier or a wrong
one, or answer with a page of its own. All of these raise Corrupt, so that the request is repeated.
"""

import asyncio
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from botocore.exceptions import FlexibleChecksumError

from pipeline.storage.errors import Corrupt
from pipeline.storage.time_limits import timeout_seconds

CHUNK_BYTES = 1 << 20
REQUIRED = {"head_object": ("ETag", "ContentLength"), "put_object": ("ETag",), "list_objects_v2": ("IsTruncated",)}
"""What the answers of a store to these requests have. That of `get_object` too, which is checked after its body."""
LISTED = ("Size", "ETag")  # what a listing says of each object

_MD5 = re.compile(r"[0-9a-f]{32}")
_DIRECTORY_BUCKETS = ("--x-s3", "--xa-s3")  # their ETags are no digests, and their listings have no order


def check_required(answer: Mapping[str, Any], names: Iterable[str], uri: str) -> None:
    """Raise Corrupt if an answer lacks what every answer of the store has."""
    for name in names:
        if answer.get(name) is None:
            raise Corrupt(
                f"{uri}: the answer has no {name}, so it is not that of an S3 store: something between, such as a "
                "proxy, may have answered"
            )


def check_whole(answer: dict[str, Any], data: bytes, bucket: str, uri: str) -> bool:
    """Raise Corrupt unless the body of a whole object has the MD5 that its ETag is. Return False if it is none."""
    if (expected := _md5_of(answer, bucket)) is None:
        return False
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != expected:
        raise Corrupt(f"{uri}: what was received is not the object: its MD5 is {found}, by the ETag {expected}")
    return True


def check_range(answer: dict[str, Any], begin: int, end: int, data: bytes, uri: str, *, size: int | None) -> None:
    """Raise Corrupt unless a body is the range of these bytes; or less of it if the object ends there.

    size: of the object, in which the range lies; None if it is not known.
    """
    first, total = _content_range(answer.get("ContentRange"))
    most = end - begin
    expected = most if size is not None or total is None else min(most, total - begin)
    is_short = len(data) < expected and (size is not None or total is not None)
    if first != begin or is_short or len(data) > expected or (None not in (size, total) and size != total):
        given = answer.get("ContentRange", "which it does not say")
        of = "" if size is None else f" of {size:,}"
        raise Corrupt(f"{uri}: of bytes {begin:,} to {end:,}{of}, {len(data):,} were received ({given})")


def check_page(page: dict[str, Any], prefix: str, last: str, token: str | None, bucket: str, uri: str) -> None:
    """Raise Corrupt unless the keys of a page begin with `prefix` and ascend from `last`, and its token leads on.

    token: the one that led to the page.
    """
    has_order, name = not bucket.endswith(_DIRECTORY_BUCKETS), f"the listing of {uri}"
    for item in page.get("Contents", ()):
        check_required(item, LISTED, name)
        if not item["Key"].startswith(prefix):
            raise Corrupt(f"{name} is another one: {item['Key']!r} does not begin with {prefix!r}")
        if has_order and item["Key"] <= last:  # by code points, whose order is that of the bytes in UTF-8
            raise Corrupt(
                f"{name} repeats keys or is not in their order: {item['Key']!r} comes after {last!r}. "
                "Run the command again"
            )
        last = item["Key"]
    if page["IsTruncated"] and page.get("NextContinuationToken") in (None, "", token):
        raise Corrupt(f"{name} does not continue after {last!r}, although the store says that it is cut")


async def read_body(body: Any, uri: str) -> bytes:
    """Read the rest of a body and close it, in the thread that owns its connection.

    TimeoutError if it is too slow: the limit is that of the bytes that have arrived, so a body that trickles ends soon,
    however long it is. Corrupt if the client finds that it does not have the stored checksum.
    """
    chunks, size, began = [], 0, asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(timeout_seconds(0)) as limit:
            while chunk := await body.read(CHUNK_BYTES):
                chunks.append(chunk)
                size += len(chunk)
                limit.reschedule(began + timeout_seconds(size))
        return b"".join(chunks)
    except FlexibleChecksumError as error:
        raise Corrupt(f"{uri}: what was received is not the object: {error}") from None
    finally:
        body.close()


def _md5_of(answer: dict[str, Any], bucket: str) -> str | None:
    """Return the MD5 that an ETag is: of an object uploaded as a whole, not encrypted with a key of its owner."""
    encrypted = answer.get("ServerSideEncryption") not in (None, "AES256") or answer.get("SSECustomerAlgorithm")
    tag = str(answer["ETag"]).strip('"').lower()
    return tag if _MD5.fullmatch(tag) and not encrypted and not bucket.endswith(_DIRECTORY_BUCKETS) else None


def _content_range(value: Any) -> tuple[int, int | None]:
    """Return the first byte and the total size in `bytes 0-99/1234`; 0 and None for a body without a range."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", str(value))
    return (int(found[1]), int(found[2])) if found else (0, None)
