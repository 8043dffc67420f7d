"""Answers that are slow, cut, damaged, or not the store's at all are requested again, and never taken for an object."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipeline.storage import Changed, StorageError, Store, retry
from pipeline.storage.errors import Corrupt
from pipeline.storage.s3_answers import REQUIRED, check_page, check_required
from tests.faults.damaging_proxy import Damage, DamagingProxy, cut, flipped, login_page, with_etag, without_checksums
from tests.faults.faulty_proxy import Answer

CONTENT = os.urandom(300_000)


@pytest.fixture
def proxy(s3, monkeypatch: pytest.MonkeyPatch) -> Iterator[DamagingProxy]:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)
    with DamagingProxy(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


@pytest.fixture
def store(proxy: DamagingProxy, s3) -> Store:
    """A bucket with one object `key`."""
    bucket = s3.bucket("answers")
    s3.client.put_object(Bucket=bucket.removeprefix("s3://"), Key="key", Body=CONTENT)
    return Store(bucket)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a flipped bit": (lambda answer: flipped(without_checksums(answer)), r"its MD5 is \w{32}, by the ETag \w{32}"),
    "a flipped bit under a checksum": (flipped, r"Expected checksum .* did not match"),
    "a cut body": (lambda answer: cut(without_checksums(answer)), "its MD5 is"),
    "a page of a proxy": (login_page, "the answer has no ETag, so it is not that of an S3 store"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_object_is_read_again(proxy: DamagingProxy, store: Store, name: str) -> None:
    [entry] = store.entries()
    damage, _ = DAMAGES[name]
    proxy.start(damage, left=2)
    assert store.read("key", version=entry.version, size=entry.size) == CONTENT
    assert proxy.seen == 3


@pytest.mark.parametrize("name", DAMAGES)
def test_object_that_is_always_damaged_is_requested_three_times(proxy: DamagingProxy, store: Store, name: str) -> None:
    [entry] = store.entries()
    damage, reason = DAMAGES[name]
    proxy.start(damage, left=99)
    with pytest.raises(Corrupt, match=f"^{store.uri}/key: .*{reason}"):
        store.read("key", version=entry.version, size=entry.size)
    assert proxy.seen == 3


def test_object_without_md5_is_held_against_its_planned_size(proxy: DamagingProxy, store: Store) -> None:
    etag = f"{hashlib.md5(CONTENT).hexdigest()}-2"  # of an upload in two parts
    proxy.start(lambda answer: with_etag(cut(without_checksums(answer)), etag), left=99)
    with pytest.raises(Corrupt, match="150,000 bytes of 300,000 were received"):
        store.read("key", size=len(CONTENT))


def test_object_without_md5_and_planned_size_is_held_against_the_size_that_the_store_says(
    proxy: DamagingProxy, store: Store, s3
) -> None:
    etag = upload_in_parts(s3, store.uri.removeprefix("s3://"), "parts", CONTENT)
    proxy.start(lambda answer: cut(without_checksums(answer)), left=2)
    assert store.read("parts", version=etag) == CONTENT
    proxy.left = 99
    with pytest.raises(Corrupt, match="150,000 bytes of 300,000 were received"):
        store.read("parts")


def upload_in_parts(s3, bucket: str, key: str, data: bytes) -> str:
    """Upload an object in one part, so that its ETag is no MD5; return the ETag."""
    place = {"Bucket": bucket, "Key": key}
    place["UploadId"] = s3.client.create_multipart_upload(**place)["UploadId"]
    part = {"PartNumber": 1, "ETag": s3.client.upload_part(**place, PartNumber=1, Body=data)["ETag"]}
    found = s3.client.complete_multipart_upload(**place, MultipartUpload={"Parts": [part]})
    return str(found["ETag"]).strip('"')


@pytest.mark.parametrize(
    "header",
    [{"x-amz-server-side-encryption": "aws:kms"}, {"x-amz-server-side-encryption-customer-algorithm": "AES256"}],
)
def test_etag_of_an_encrypted_object_is_no_checksum(proxy: DamagingProxy, store: Store, header: dict[str, str]) -> None:
    proxy.start(lambda answer: replace(with_etag(answer, "0" * 32), headers=answer.headers | header), left=99)
    assert store.read("key") == CONTENT


RANGES: dict[str, Damage] = {
    "a cut body": cut,
    "another range": lambda answer: replace(
        answer, headers=answer.headers | {"Content-Range": f"bytes 7-299999/{len(CONTENT)}"}
    ),
    "a page of a proxy": login_page,
}


@pytest.mark.parametrize("name", RANGES)
def test_damaged_range_is_read_again_and_never_used(proxy: DamagingProxy, store: Store, name: str) -> None:
    [entry] = store.entries()
    with store.open("key", version=entry.version) as file:
        proxy.start(RANGES[name], left=2)
        assert file.read() == CONTENT
        assert proxy.seen == 3
    assert store.read_start("key", 1000) == CONTENT[:1000]
    assert store.read_start("key", 400_000) == CONTENT
    with store.open("key", version=entry.version) as file:
        proxy.start(RANGES[name], left=99)
        with pytest.raises(Corrupt, match=f"^{store.uri}/key: "):
            file.read()
    with pytest.raises(Corrupt, match=f"^{store.uri}/key: "):
        store.read_start("key", 1000)


def test_object_that_a_proxy_stored_by_half_is_not_opened(proxy: DamagingProxy, store: Store) -> None:
    """Its length and its ranges agree with one another, and its ETag is right."""
    [entry] = store.entries()

    def half(answer: Answer) -> Answer:
        return replace(answer, headers=answer.headers | {"Content-Length": str(len(CONTENT) // 2)})

    proxy.start(half, left=2, method="HEAD")
    with store.open("key", version=entry.version, size=entry.size) as file:
        assert file.read() == CONTENT
    proxy.start(half, left=99, method="HEAD")
    with pytest.raises(Corrupt, match=f"^{store.uri}/key: 150,000 bytes of 300,000 were received"):
        store.open("key", version=entry.version, size=entry.size)


def test_object_that_is_said_to_be_empty_and_is_not_is_no_empty_one(proxy: DamagingProxy, store: Store) -> None:
    proxy.start(lambda answer: replace(answer, headers=answer.headers | {"Content-Length": "0"}), left=2, method="HEAD")
    assert store.size("key") == len(CONTENT)
    proxy.left = 99
    with pytest.raises(Corrupt, match="what was received is not the object: its MD5 is d41d8cd98f00"):
        store.open("key")


def test_range_of_an_object_of_another_size_is_not_used(proxy: DamagingProxy, store: Store) -> None:
    longer = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{2 * len(CONTENT)}"}
    with store.open("key") as file:
        proxy.start(lambda answer: replace(answer, headers=answer.headers | longer), left=2)
        assert file.read() == CONTENT
        assert proxy.seen == 3


def test_answer_to_a_look_up_has_a_size() -> None:
    with pytest.raises(Corrupt, match=r"^s3://a/b: the answer has no ContentLength, so it is not that of an S3 store"):
        check_required({"ETag": "a"}, REQUIRED["head_object"], "s3://a/b")


def test_small_object_that_is_opened_is_held_against_its_checksum(proxy: DamagingProxy, store: Store) -> None:
    [entry] = store.entries()
    with store.open("key", version=entry.version, size=entry.size) as file:
        proxy.start(lambda answer: flipped(without_checksums(answer)), left=2)
        assert file.read() == CONTENT
        assert proxy.seen == 3


def test_range_of_another_version_is_a_change_though_the_store_ignores_conditions(
    proxy: DamagingProxy, store: Store
) -> None:
    with store.open("key") as file:
        proxy.start(lambda answer: with_etag(answer, "0" * 32), left=1)
        with pytest.raises(Changed, match=f"its version is {'0' * 32}"):
            file.read()


def test_page_of_a_proxy_is_no_listing_and_no_success_of_a_write(proxy: DamagingProxy, store: Store) -> None:
    proxy.start(login_page, left=2)
    assert [entry.key for entry in store.entries()] == ["key"]
    proxy.start(login_page, left=99)
    with pytest.raises(Corrupt, match="the answer has no IsTruncated, so it is not that of an S3 store"):
        list(store.keys())
    for method, access in (("PUT", lambda: store.put("other", b"")), ("HEAD", lambda: store.size("key"))):
        proxy.start(login_page, left=2, method=method)
        access()
        proxy.start(login_page, left=99, method=method)
        with pytest.raises(Corrupt, match="the answer has no ETag"):
            access()


def test_trickling_answer_is_requested_again(
    proxy: DamagingProxy, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.storage.time_limits.MAX_LATENCY_SECONDS", 0.5)
    proxy.trickles = True
    for read in (lambda: store.read("key"), lambda: store.open("key").read(), lambda: list(store.keys())):
        proxy.left, proxy.seen, began = 1, 0, time.monotonic()
        assert read() in (CONTENT, ["key"])
        assert proxy.seen > 1
        assert time.monotonic() - began < 20, "300,000 bytes would take hours"
    proxy.left = 99
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0)
    with pytest.raises(StorageError, match=rf"reading {store.uri}/key: no response in time \(3 attempts") as caught:
        store.read("key")
    assert caught.value.transient


def listed(*keys: str, more: str = "", truncated: bool = True) -> Answer:
    """Return a page of a listing."""
    found = "".join(f"<Contents><Key>{key}</Key><ETag>a</ETag><Size>1</Size></Contents>" for key in keys)
    token = f"<NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    head = f"<Name>bucket</Name><IsTruncated>{str(truncated).lower()}</IsTruncated>{token}"
    return Answer(status=200, body=f"<ListBucketResult>{head}{found}</ListBucketResult>".encode())


LISTINGS: dict[str, tuple[list[Answer], str]] = {
    "repeats its first page": ([listed("a", "b", more="1"), listed("a", "b", more="2")], "'a' comes after 'b'"),
    "repeats a key": ([listed("a", "a", truncated=False)], "'a' comes after 'a'"),
    "has no order": ([listed("b", "a", truncated=False)], "'a' comes after 'b'"),
    "lacks its token": ([listed("a", "b")], "does not continue after 'b', although the store says that it is cut"),
    "gives one token for ever": ([listed("a", more="1"), listed("b", more="1")], "does not continue after 'b'"),
    "is empty and goes on": ([listed(more="1"), listed(more="2")], "does not end: after ''"),
}


@pytest.mark.parametrize("name", LISTINGS)
def test_listing_that_loops_ends_in_words(
    proxy: DamagingProxy, store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("pipeline.storage.s3_folder.MAX_EMPTY_PAGES", 3)
    (first, *following), reason = LISTINGS[name]
    pages = iter([first])
    proxy.start(lambda _: next(pages, (following or [first])[-1]), left=10**6)
    if name == "is empty and goes on":
        numbers = iter(range(10**6))
        proxy.damage = lambda _: listed(more=str(next(numbers)))
    with pytest.raises(StorageError, match=f"^the listing of {re.escape(store.uri)} .*{reason}"):
        list(store.entries())
    assert proxy.seen <= 5


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda _: listed("a/b", truncated=False), " is another one: 'a/b' does not begin with 'folder/'"),
        (lambda answer: without(answer, "ETag"), ": the answer has no ETag"),
        (lambda answer: without(answer, "Size"), ": the answer has no Size"),
    ],
)
def test_listing_that_is_another_one_or_lacks_something_is_requested_again(
    proxy: DamagingProxy, store: Store, damage: Damage, reason: str
) -> None:
    store.put("folder/key", b"")
    proxy.start(damage, left=2)
    assert [entry.key for entry in store.entries("folder/")] == ["folder/key"]
    proxy.start(damage, left=99)
    with pytest.raises(Corrupt, match=f"^the listing of {re.escape(store.uri)}{reason}"):
        list(store.keys("folder/"))


UNPARSABLE: dict[str, tuple[Damage, str]] = {
    "has letters for a size": (lambda answer: replaced(answer, b"<Size>", b"<Size>x"), "is not that of an S3 store"),
    "has no time for a time": (lambda answer: replaced(answer, b"<LastModified>", b"<LastModified>x"), "Invalid time"),
    "has no key": (lambda answer: without(answer, "Key"), "has no Key, so it is not that of an S3 store"),
    "is cut": (cut, "error when listing"),
    "is an error with status 200": (lambda _: Answer(status=200, body=ERROR), "InternalError"),
}
ERROR = b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>Try again.</Message></Error>'


@pytest.mark.parametrize("name", UNPARSABLE)
def test_page_that_cannot_be_parsed_is_requested_again(
    proxy: DamagingProxy, store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    damage, reason = UNPARSABLE[name]
    proxy.start(damage, left=3)
    assert list(store.keys()) == ["key"]
    assert proxy.seen == 4
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0)
    proxy.start(damage, left=99)
    with pytest.raises(StorageError, match=reason) as caught:
        list(store.keys())
    assert caught.value.transient


def replaced(answer: Answer, old: bytes, new: bytes) -> Answer:
    """Return an answer with some bytes of its body replaced; its length is said anew."""
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
    return replace(answer, headers=headers, body=answer.body.replace(old, new))


def without(answer: Answer, tag: str) -> Answer:
    """Return a listing without something that it says of its objects."""
    body = re.sub(f"<{tag}>[^<]*</{tag}>".encode(), b"", answer.body)
    return Answer(status=200, body=body)


def test_directory_bucket_has_no_order() -> None:
    page = {"IsTruncated": False, "Contents": [{"Key": key, "Size": 1, "ETag": "a"} for key in ("b", "a")]}
    check_page(page, "", "", None, "name--use1-az4--x-s3", "s3://name--use1-az4--x-s3")


def test_page_that_repeats_keys_once_is_requested_again(proxy: DamagingProxy, s3) -> None:
    bucket = s3.bucket("pages")
    for number in range(110):
        s3.client.put_object(Bucket=bucket.removeprefix("s3://"), Key=f"{number:04d}", Body=b"")
    answers: list[Answer] = []

    def stale(answer: Answer) -> Answer:
        answers.append(answer)
        return answers[0]  # the first page in place of the second

    proxy.start(stale, left=2)
    assert list(Store(bucket).keys()) == [f"{number:04d}" for number in range(110)]
    assert proxy.seen == 3
