"""The folder of Google, Azure and Hugging Face stores, tested on S3 and on fsspec's memory file system."""

import threading
import uuid

import fsspec
import pytest

from pipeline.storage import Changed, Entry, Missing, StorageError, is_same_version, retry
from pipeline.storage.fsspec_folder import FsspecFolder, version_of
from pipeline.storage.store import Store

KEYS = ["a b#?%é", "a-b", "a/b/c", "a/b/d", "a0", "A"]


@pytest.fixture(params=["s3", "memory"])
def folder(request: pytest.FixtureRequest) -> FsspecFolder:
    if request.param == "memory":
        name = uuid.uuid4().hex  # all of a process share that memory
        return FsspecFolder(fsspec.filesystem("memory", skip_instance_cache=True), f"/{name}", f"memory://{name}")
    uri = f"{request.getfixturevalue('s3').bucket('objects')}/in"
    fs = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    return FsspecFolder(fs, uri.removeprefix("s3://"), uri)


def test_keys_are_put_listed_and_read_in_order(folder: FsspecFolder) -> None:
    assert list(folder.entries("")) == []
    for key in KEYS:
        assert folder.put_if_absent(key, key.encode())
    entries = list(folder.entries(""))
    assert [entry.key for entry in entries] == sorted(KEYS, key=str.encode)
    assert list(folder.keys("a/b/")) == ["a/b/c", "a/b/d"]
    for entry in entries:
        assert folder.read(entry.key, entry.version) == entry.key.encode()
        assert folder.size(entry.key) == entry.size
        assert folder.entry(entry.key) == entry
        with folder.open(entry.key) as file:
            file.seek(1)
            assert file.read() == entry.key.encode()[1:]
        folder.delete(entry.key)
        folder.delete(entry.key)
    assert list(folder.keys("")) == []


def test_second_put_is_refused_and_changes_are_seen(folder: FsspecFolder) -> None:
    assert folder.put_if_absent("key", b"first")
    assert not folder.put_if_absent("key", b"second")
    [before] = folder.entries("")
    folder.put("key", b"third")
    assert folder.read("key", None) == b"third"
    with pytest.raises(Changed, match=before.version):
        folder.read("key", before.version)
    folder.put("folder/key", b"")
    with pytest.raises(Missing):
        folder.size("folder")


def test_request_of_a_client_without_time_limits_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a server sends a file of the Hugging Face Hub byte by byte."""
    fs, slow = fsspec.filesystem("memory", skip_instance_cache=True), threading.Event()
    folder = FsspecFolder(fs, f"/{uuid.uuid4().hex}", "memory://slow")
    folder.put("key", b"content")
    monkeypatch.setattr("pipeline.storage.time_limits.MAX_LATENCY_SECONDS", 0.1)
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0)
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(fs, "cat_file", lambda *_, **__: slow.wait(20))
    with pytest.raises(TimeoutError):
        folder.read("key", None, 7)
    with pytest.raises(StorageError, match="no response in time"):
        folder.open("key").read()
    slow.set()


def test_version_is_the_store_s_own() -> None:
    assert version_of({"size": 1, "generation": "17", "etag": "a"}) == "17"
    assert version_of({"size": 1, "ETag": '"abc"'}) == "abc"
    assert version_of({"size": 1, "etag": '"0x8D"'}) == "0x8D"
    assert version_of({"size": 1, "blob_id": "f00"}) == "f00"
    assert version_of({"size": 1, "mtime": 2.5}) == "1-2.5"
    assert version_of({"size": 1, "Last-Modified": "Thu, 01 Jan 1970 00:00:02 GMT"}) == "1-2.0"
    assert version_of({"size": 1, "Last-Modified": "some day"}) == "1-"


def test_a_time_that_an_earlier_release_did_not_plan_is_no_change() -> None:
    assert is_same_version("8-", "8-2.0")
    assert not is_same_version("8-1.0", "8-2.0")
    assert not is_same_version("8-", "9-2.0")


def test_store_reads_any_fsspec_uri() -> None:
    fsspec.filesystem("memory").pipe_file("/known/a", b"content")
    store = Store("memory://known")
    [entry] = store.entries()
    assert entry == Entry(key="a", size=7, version=entry.version)
    assert store.read("a", version=entry.version) == b"content"
    with pytest.raises(Missing, match="memory://known/b"):
        store.read("b")
