"""A read returns the planned version or raises Changed."""

import io
import os
import pickle
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.storage import AccessError, Changed, Denied, Entry, Missing, StorageError, Store, is_same_version, retry
from pipeline.storage.local_file import FULL_DIGEST_MAX_BYTES


def version(store: Store, key: str) -> str:
    return next(entry.version for entry in store.entries(key) if entry.key == key)


def test_version_follows_the_content(uri: str) -> None:
    store = Store(uri)
    store.put("key", b"first")
    first = version(store, "key")
    assert store.read("key", version=first) == b"first"
    store.put("key", b"other")  # of the same size
    assert version(store, "key") != first
    with pytest.raises(Changed, match=first):
        store.read("key", version=first)
    store.put("key", b"first")
    assert store.read("key", version=first) == b"first"


def test_deleted_key_is_missing(uri: str) -> None:
    store = Store(uri)
    store.put("folder/key", b"content")
    planned = version(store, "folder/key")
    store.delete("folder/key")
    store.put("folder/other", b"content")
    for key in ("folder/key", "folder", "folder/other/below"):
        for access in (store.read, store.size):
            with pytest.raises(Missing, match=f"{uri}/{key}"):
                access(key)
    with pytest.raises(Missing):
        store.open("folder/key")
    with pytest.raises(Missing):
        store.read("folder/key", version=planned)


def test_read_returns_the_requested_version_only(uri: str) -> None:
    """During writes by another client a read returns the planned content or raises Changed."""
    store, contents = Store(uri), [bytes([65 + number]) * 100_000 for number in range(8)]
    store.put("key", contents[0])
    planned = version(store, "key")
    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(lambda: [store.put("key", content) for content in contents * 5])
        read = []
        while not writing.done():
            try:
                read.append(store.read("key", version=planned))
            except Changed:
                read.append(None)
    writing.result()
    assert set(read) <= {contents[0], None}
    assert None in read


def test_copy_has_the_version_of_the_file_if_it_is_small_or_keeps_the_time(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"content")
    (tmp_path / "large").write_bytes(os.urandom(FULL_DIGEST_MAX_BYTES + 1))
    store = Store(str(tmp_path))
    before = {entry.key: entry.version for entry in store.entries()}
    assert before["small"].startswith("7-")
    assert before["large"].startswith(f"{FULL_DIGEST_MAX_BYTES + 1}-")
    for name, copy in (("small", shutil.copy), ("large", shutil.copy2)):
        copy(tmp_path / name, tmp_path / "copy")
        os.replace(tmp_path / "copy", tmp_path / name)  # noqa: PTH105
    assert {entry.key: entry.version for entry in store.entries()} == before


def test_change_in_the_middle_of_a_large_local_file_is_seen(tmp_path: Path) -> None:
    content = bytearray(32 * FULL_DIGEST_MAX_BYTES)
    store, path = Store(str(tmp_path)), tmp_path / "file"
    path.write_bytes(content)
    before = version(store, "file")
    with path.open("r+b") as file:
        file.seek(FULL_DIGEST_MAX_BYTES)  # between two samples
        file.write(b"x")
    assert version(store, "file").split("-")[:2] == before.split("-")[:2]
    for read in (store.read, store.open):
        with pytest.raises(Changed, match=f"file changed: its version is .*, expected {before}"):
            read("file", version=before)


def test_version_of_an_earlier_release_is_still_that_of_the_file(tmp_path: Path) -> None:
    """It had no modification time."""
    content = os.urandom(FULL_DIGEST_MAX_BYTES + 1)
    (tmp_path / "file").write_bytes(content)
    store = Store(str(tmp_path))
    found = version(store, "file")
    earlier = found.rpartition("-")[0]
    assert re.fullmatch(r"\d+-[0-9a-f]{32}", earlier)
    assert store.read("file", version=earlier) == content
    with store.open("file", version=earlier) as file:
        assert file.read() == content
    assert is_same_version(earlier, found)
    assert is_same_version(f"7-0a+{earlier}", f"7-0a+{found}")
    for planned, other in [(found, earlier), (found, found + "0"), (earlier + "+7-0a", found), ("5-0a", "5-0a-1")]:
        assert not is_same_version(planned, other)


def test_local_file_that_is_written_while_it_is_read_raises_changed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))
    store = Store(str(tmp_path))
    with store.open("file", version=version(store, "file")) as file:
        file.read(10)
        os.replace(shutil.copy(path, tmp_path / "other"), path)  # noqa: PTH105 - the open one stays what it is
        file.seek(1 << 19)
        assert file.read(10) == bytes(10)
    with store.open("file", version=version(store, "file")) as file:
        file.read(10)
        with path.open("r+b") as writer:
            writer.write(b"x")
        file.seek(1 << 19)
        with pytest.raises(Changed, match=f"{path} changed while it was read"):
            file.read(10)


@pytest.mark.parametrize("at", [0, FULL_DIGEST_MAX_BYTES // 2, FULL_DIGEST_MAX_BYTES - 1])
def test_version_of_a_small_local_file_depends_on_every_byte(tmp_path: Path, at: int) -> None:
    content = bytearray(FULL_DIGEST_MAX_BYTES)
    store = Store(str(tmp_path))
    store.put("file", bytes(content))
    before = version(store, "file")
    content[at] ^= 1
    store.put("file", bytes(content))
    assert version(store, "file") != before


@pytest.mark.parametrize("at", [0, -1])
def test_version_of_a_large_local_file_depends_on_both_ends(tmp_path: Path, at: int) -> None:
    content = bytearray(FULL_DIGEST_MAX_BYTES + 100)
    store = Store(str(tmp_path))
    store.put("file", bytes(content))
    before = version(store, "file")
    assert store.read("file", version=before) == content
    content[at] ^= 1
    store.put("file", bytes(content))
    assert version(store, "file") != before


def test_open_supports_seek_and_read(uri: str) -> None:
    content = os.urandom(3 << 20)
    store = Store(uri)
    store.put("key", content)
    with store.open("key") as file:
        assert file.seekable()
        assert file.seek(0, io.SEEK_END) == len(content)
        assert file.read(1) == b""
        for at, count in [(0, 10), (5, 1 << 20), (2 << 20, 5 << 20), (len(content) - 3, 10), (100, 0)]:
            file.seek(at)
            assert file.tell() == at
            assert file.read(count) == content[at : at + count]
        file.seek(-5, io.SEEK_END)
        assert file.read() == content[-5:]


def test_changed_content_is_not_fetched(s3_proxy, s3) -> None:
    store = Store(s3.bucket("changed"))
    store.put("key", bytes(1 << 20))
    with pytest.raises(Changed):
        store.read("key", version="0" * 32)
    assert sum(count for method, *_, count in s3_proxy.seen if method == "GET") < 10_000


def test_open_on_s3_sends_ranged_requests_only(s3_proxy, s3) -> None:
    content = os.urandom(8 << 20)
    store = Store(s3.bucket("ranges"))
    store.put("key", content)
    with store.open("key") as file:
        file.seek(-100, io.SEEK_END)
        assert file.read() == content[-100:]
    gets = [(headers, count) for method, _, headers, count in s3_proxy.seen if method == "GET"]
    assert all("range" in headers for headers, _ in gets)
    assert sum(count for _, count in gets) <= 1 << 20


def test_object_replaced_while_open_raises_changed(s3) -> None:
    store = Store(s3.bucket("replaced"))
    store.put("key", bytes(4 << 20))
    with store.open("key") as file:
        file.read(10)
        store.put("key", bytes([1]) * (4 << 20))
        file.seek(3 << 20)
        with pytest.raises(Changed, match="s3://replaced"):
            file.read(10)


def test_local_file_without_permission_is_named(forbidden: Path) -> None:
    store = Store(str(forbidden))
    with pytest.raises(AccessError, match=f"{forbidden}/file: Permission denied"):
        store.read("file")
    with pytest.raises(Denied, match=f"{forbidden}/file: Permission denied"):
        store.open("file", version="0-denied")
    assert list(store.entries()) == [Entry(key="file", size=0, version="0-denied")], "one file does not stop a listing"
    assert list(store.keys()) == ["file"]
    with pytest.raises(AccessError, match=f"{forbidden}"):
        store.check_writable()


def test_missing_credentials_name_the_uri(s3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uri = s3.bucket("none")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for access in (lambda store: store.read("key"), lambda store: list(store.entries()), Store.check_writable):
        with pytest.raises(AccessError, match=f"{uri}.*redentials"):
            access(Store(uri))


@pytest.mark.parametrize(
    "access", [lambda store: store.read("key"), lambda store: store.size("key"), lambda store: list(store.keys(""))]
)
def test_forbidden_access_names_the_uri_and_no_secret(s3_proxy, s3, access) -> None:
    uri = s3.bucket("denied")
    s3_proxy.statuses = [403]
    with pytest.raises(AccessError, match=uri) as caught:
        access(Store(uri))
    assert "testing-secret-canary" not in str(caught.value)


def test_bad_request_without_a_reason_is_an_access_error(s3_proxy, s3) -> None:
    s3_proxy.statuses = [400] * 3  # all that a HEAD with an expired token hears; botocore asks for the region too
    with pytest.raises(AccessError, match="s3://expired"):
        Store(s3.bucket("expired")).size("key")


def test_refused_connection_is_transient(s3, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = s3.bucket("down")
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:canary-password@127.0.0.1:9")
    with pytest.raises(StorageError, match=uri) as caught:
        Store(uri).read("key")
    assert caught.value.transient
    assert "canary-password" not in str(caught.value)


def test_store_pickles_small_and_shares_its_connection_in_a_process(uri: str) -> None:
    store = Store(uri, single_writer=True)
    store.put("key", b"content")
    data = pickle.dumps(store)
    assert len(data) < 300
    first, second = pickle.loads(data), pickle.loads(data)
    assert first is second
    assert first.single_writer
    assert first.read("key") == b"content"


def test_store_works_in_a_forked_child(uri: str) -> None:
    store = Store(uri)
    store.put("key", b"content")
    child = os.fork()
    if child == 0:
        os._exit(0 if store.read("key") == b"content" else 1)
    assert os.waitpid(child, 0)[1] == 0
