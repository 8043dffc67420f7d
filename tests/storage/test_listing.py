"""Listings hold every key once, unchanged, in byte order, and up to date."""

import asyncio
import itertools
import os
from pathlib import Path

import pytest
from aiobotocore.session import AioSession
from botocore.utils import parse_timestamp

from pipeline.storage import AccessError, LeftOut, Missing, Store
from pipeline.storage.s3_parser import parse_time, use_fast_parser

TIMES = ["2025-05-17T10:20:30.000Z", "2025-05-17T10:20:30+02:00", "Sat, 17 May 2025 10:20:30 GMT", 1747477230.0]
ODD = [
    *(
        "with space",
        "With Space",
        "hash#1",
        "what?",
        "what?versionId=1",
        "100%",
        "%41",
        "a..b",
        "..hidden",
        "trailing ",
        " leading",
    ),
    *("ü/ñ", "日本語.jpg", "🙂", "quote'\"", "back\\slash", "a+b&c=d", "tab\there", "s3://bucket/key", "*", "[x]"),
]
S3_ONLY = ["a//b", "/leading slash", "trailing slash/", "a/../b", "./c", "C:/d"]


@pytest.mark.parametrize("text", TIMES)
def test_times_are_parsed_as_botocore_does(text: str | float) -> None:
    found = parse_time(text)
    assert found == parse_timestamp(text)
    assert found.tzinfo is not None


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'])
def test_pages_are_parsed_as_botocore_does(namespace: str) -> None:
    known = "<Key>a%2Fb</Key><LastModified>2025-05-17T10:20:30.000Z</LastModified><ETag>&quot;x&quot;</ETag>"
    known += "<Size>1</Size><StorageClass>GLACIER</StorageClass>"
    more = "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><Owner><ID>1</ID></Owner><Unknown>1</Unknown>"
    objects = f"<Contents>{known}{more}</Contents><Contents><Key/><Size>0</Size></Contents>"
    page = f'<?xml version="1.0"?><ListBucketResult{namespace}><Name>n</Name>{objects}</ListBucketResult>'
    response = {"status_code": 200, "headers": {}, "body": page.encode()}

    async def parsed(session: AioSession) -> dict:
        model = await session.get_service_model("s3")
        parser = session.get_component("response_parser_factory").create_parser("rest-xml")
        return await parser.parse(response, model.operation_model("ListObjectsV2").output_shape)

    expected = asyncio.run(parsed(AioSession()))
    use_fast_parser(session := AioSession())
    first = expected["Contents"][0]
    assert first.pop("ChecksumAlgorithm") == ["CRC32"]
    assert first.pop("Owner") == {"ID": "1"}
    assert len(first) == 5
    assert asyncio.run(parsed(session)) == expected


@pytest.fixture
def odd_keys(uri: str) -> list[str]:
    # A local disk has no empty names: the two slashes of the URI are one there.
    return [key for key in ODD if uri.startswith("s3:") or "//" not in key] + S3_ONLY * uri.startswith("s3:")


def test_odd_keys_are_written_listed_and_read_unchanged(uri: str, odd_keys: list[str]) -> None:
    store = Store(uri)
    for key in odd_keys:
        assert store.put_if_absent(key, key.encode())
    listed = list(store.entries())
    assert [entry.key for entry in listed] == sorted(odd_keys, key=str.encode) == list(store.keys(""))
    for entry in listed:
        assert store.read(entry.key, version=entry.version) == entry.key.encode()
        assert store.read_start(entry.key, 3) == entry.key.encode()[:3]
        assert store.size(entry.key) == entry.size == len(entry.key.encode())
        assert store.entry(entry.key) == entry
        with store.open(entry.key) as file:
            assert file.read() == entry.key.encode()
        store.delete(entry.key)
    assert list(store.keys("")) == []


def test_listing_is_in_byte_order_of_whole_keys(uri: str) -> None:
    keys = ["a-b", "a.b", "a/b", "a/b/c", "a0", "B", "é", "z", "a/b-c", "a/\uffee", "a/\U00010000"]
    if not uri.startswith("s3:"):
        keys.remove("a/b")  # a file there, and a folder of that name
    store = Store(uri)
    for key in keys:
        store.put(key, b"")
    assert list(store.keys("")) == sorted(keys, key=str.encode)


def test_prefix_may_end_within_a_name(uri: str) -> None:
    store = Store(uri)
    for key in ["cats/a", "cats/b/c", "cats2/a", "cat", "dogs/a"]:
        store.put(key, b"")
    assert list(store.keys("cat")) == ["cat", "cats/a", "cats/b/c", "cats2/a"]
    assert list(store.keys("cats/")) == ["cats/a", "cats/b/c"]
    assert list(store.keys("cats/b")) == ["cats/b/c"]
    assert [entry.key for entry in store.entries("cats/b/c")] == ["cats/b/c"]
    assert list(store.keys("none/")) == []


def test_siblings_of_the_folder_are_not_listed(uri: str) -> None:
    Store(f"{uri}-more").put("key", b"")
    Store(uri).put("key", b"")
    assert list(Store(uri).keys("")) == ["key"]


def test_listings_are_not_cached(uri: str, s3) -> None:
    store = Store(uri)
    assert list(store.keys("predictions/")) == []
    if uri.startswith("s3:"):
        bucket, _, folder = uri.removeprefix("s3://").partition("/")
        s3.client.put_object(Bucket=bucket, Key=f"{folder}/predictions/theirs", Body=b"theirs")
    else:
        Path(uri, "predictions").mkdir(parents=True)
        Path(uri, "predictions/theirs").write_bytes(b"theirs")
    assert list(store.keys("predictions/")) == ["predictions/theirs"]
    assert not store.put_if_absent("predictions/theirs", b"ours")


def test_s3_is_listed_by_pages(s3_proxy, s3) -> None:
    uri = s3.bucket("pages")
    for number in range(110):
        s3.client.put_object(Bucket=uri.removeprefix("s3://"), Key=f"in/{number:04d}", Body=b"")
    names = Store(f"{uri}/in").keys("")
    assert list(itertools.islice(names, 100)) == [f"{number:04d}" for number in range(100)]
    assert len(s3_proxy.seen) == 1  # pages are requested on demand
    assert len(list(names)) == 10
    assert len(s3_proxy.seen) == 2


def test_temporary_files_and_folder_markers_are_not_listed(uri: str, s3) -> None:
    store = Store(uri)
    store.put("_run/tmp/half", b"")
    store.put("_run/tmp2/whole", b"")
    if uri.startswith("s3:"):
        bucket, _, folder = uri.removeprefix("s3://").partition("/")
        for mark in (f"{folder}/", f"{folder}/empty/"):
            s3.client.put_object(Bucket=bucket, Key=mark, Body=b"")
    assert list(store.keys("")) == ["_run/tmp2/whole"]
    left_out = LeftOut()
    assert [entry.key for entry in store.entries(leave_out=left_out.add)] == ["_run/tmp2/whole"]
    markers = ["./", "empty/"] if uri.startswith("s3:") else []
    assert list(left_out.entries()) == [
        *((key, "folder marker of an object store") for key in markers[:1]),
        ("_run/tmp/half", "hidden"),
        *((key, "folder marker of an object store") for key in markers[1:]),
    ]


def test_missing_folder_is_empty_but_missing_bucket_is_an_error(tmp_path: Path, s3) -> None:
    assert list(Store(str(tmp_path / "none")).keys("")) == []
    assert list(Store(f"{s3.bucket('there')}/none").keys("")) == []
    with pytest.raises(AccessError, match="s3://no-such-bucket-here"):
        list(Store("s3://no-such-bucket-here/in").keys(""))


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for folder in (root / "real", elsewhere / "below"):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"content")
    (root / "again").symlink_to(root / "real")  # listed as real/
    (root / "real/up").symlink_to("..")
    (root / "out").symlink_to(elsewhere)
    (root / "file").symlink_to(elsewhere / "below/file")
    (root / "dangling").symlink_to("nowhere")
    (root / "circle").symlink_to("circle")
    (elsewhere / "back").symlink_to(root)
    (elsewhere / "all").symlink_to("/")
    (elsewhere / "below/up").symlink_to(elsewhere)
    os.mkfifo(root / "pipe")
    store = Store(str(root))
    assert list(store.keys("")) == ["file", "out/below/file", "real/file"]
    assert [entry.key for entry in store.entries("out/")] == ["out/below/file"]
    assert store.read("out/below/file") == b"content"
    with pytest.raises(Missing):  # and not opened, which would wait for a writer
        store.entry("pipe")
    (tmp_path / "linked").symlink_to(root)
    assert list(Store(str(tmp_path / "linked")).keys("")) == ["file", "out/below/file", "real/file"]


def test_names_that_are_not_utf8_are_left_out_and_cost_no_others(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    Path(os.fsdecode(root + b"/d\xff")).mkdir()
    for name in (b"/a.jpg", b"/caf\xe9.jpg", b"/d\xff/inner.jpg", b"/z.jpg"):
        os.close(os.open(root + name, os.O_CREAT))
    left_out = LeftOut()
    store = Store(str(tmp_path))
    assert [entry.key for entry in store.entries("", left_out.add)] == ["a.jpg", "z.jpg"] == list(store.keys())
    assert left_out.first == {"name that is not valid UTF-8": [r"caf\xe9.jpg", r"d\xff/inner.jpg"]}


def test_path_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match=r"d\\xff: the path is not valid UTF-8; rename it"):
        Store(str(tmp_path) + "/d\udcff")


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/etc/passwd", "a/./b", "", "nul\0"])
def test_local_key_stays_in_its_folder(tmp_path: Path, key: str) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    store = Store(str(tmp_path / "root"))
    for access in (store.read, store.open, store.size, store.entry, store.delete):
        with pytest.raises(AccessError, match="is not the path of a file"):
            access(key)
    with pytest.raises(AccessError, match="is not the path of a file"):
        store.put(key, b"")
