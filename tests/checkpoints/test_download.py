"""Checkpoints are downloaded from any store, once per version, and despite faults of the store."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import fsspec
import pytest

from pipeline.checkpoints import CheckpointError, download, fetch
from pipeline.storage import Entry, retry
from tests.faults.faulty_proxy import KINDS, Connection, Proxy, Request

FILES = {
    "config.json": b'{"architectures": ["PerceiverModel"]}',
    "model-00001-of-00002.safetensors": os.urandom((3 << 20) + 5),
    "model-00002-of-00002.safetensors": os.urandom(1000),
    "model.safetensors.index.json": (
        b'{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    ),
    "preprocessor_config.json": b"{}",
}
OTHERS = {"pytorch_model.bin": b"pickle", "README.md": b"text", "runs/config.json": b"{}"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERCEIVER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(download, "DOWNLOAD_BYTES", 1 << 20)
    return tmp_path / "cache"


@pytest.fixture
def uri(s3) -> str:
    """A checkpoint in a bucket, with other files next to its own."""
    bucket = s3.bucket("models").removeprefix("s3://")
    for name, content in (FILES | OTHERS).items():
        s3.client.put_object(Bucket=bucket, Key=f"perceiver/{name}", Body=content)
    return f"s3://{bucket}/perceiver"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_checkpoint_files_are_downloaded_once(uri: str, cache: Path, s3_proxy) -> None:
    folder = fetch(uri)
    assert contents(folder) == FILES
    assert fetch(uri) == folder
    assert list(cache.iterdir()) == [folder]
    gets = [path for method, path, *_ in s3_proxy.seen if method == "GET" and "list-type" not in path]
    assert len(gets) == len(FILES) + 3, "the large file in chunks, nothing twice"


def test_changed_checkpoint_is_downloaded_again(uri: str, s3) -> None:
    before = fetch(uri)
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    s3.client.put_object(Bucket=bucket, Key=f"{key}/config.json", Body=b'{"num_latents": 2}')
    after = fetch(uri)
    assert contents(after) == FILES | {"config.json": b'{"num_latents": 2}'}
    assert contents(before) == FILES


def test_download_survives_a_faulty_store(uri: str, faulty_s3) -> None:
    proxy = faulty_s3(rate=0.5, seed=5, stall=0.1)
    for name in map(str, range(4)):
        os.environ["PERCEIVER_CACHE"] = f"{os.environ['PERCEIVER_CACHE']}{name}"
        assert contents(fetch(uri)) == FILES
    assert all(proxy.counts[str(kind)] for kind in KINDS), "each kind of fault occurred"


def test_cache_that_cannot_be_written_is_named(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PERCEIVER_CACHE", str(tmp_path / "file/cache"))
    expected = rf"{uri} cannot be stored in the folder {tmp_path}/file/cache: Not a directory; set PERCEIVER_CACHE to"
    with pytest.raises(CheckpointError, match=expected):
        fetch(uri)


def test_full_disk_is_not_taken_for_an_error_of_the_store(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(CheckpointError, match=r"cannot be stored in the folder .*: No space left on device; set"):
        fetch(uri)


class Outage(Proxy):
    """Cut the answer to one of the requests of weights, the third, then reset every connection for `seconds`."""

    def __init__(self, upstream: str, seconds: float, *, cut: int = 3) -> None:
        super().__init__(upstream)
        self.seconds, self.cut, self.objects, self.until, self.resets = seconds, cut, 0, 0.0, 0

    def handle(self, request: Request, connection: Connection) -> None:
        if time.monotonic() < self.until:
            self.resets += 1
            connection.reset()
            return
        self.objects += "safetensors" in request.path
        cut = self.objects == self.cut and not self.until
        self.until = time.monotonic() + self.seconds if cut else self.until
        connection.answer(self.forward(request), cut=cut)


@pytest.mark.parametrize("seconds", [2.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_download_survives_a_lost_connection(uri: str, s3, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    with Outage(s3.endpoint, seconds) as outage:
        monkeypatch.setenv("AWS_ENDPOINT_URL", outage.endpoint)
        assert contents(fetch(uri)) == FILES
    assert outage.resets > 3


def test_store_that_stays_down_is_named(uri: str, s3_proxy, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0)
    s3_proxy.statuses = [(503, "SlowDown")] * 20
    with pytest.raises(CheckpointError, match=f"checkpoint {uri} cannot be read: .*SlowDown"):
        fetch(uri)
    assert not cache.exists()


@pytest.mark.parametrize("status", [403, (400, "ExpiredToken")])
def test_denied_checkpoint_is_named_without_secrets(uri: str, s3_proxy, status: object) -> None:
    s3_proxy.statuses = [status] * 5
    with pytest.raises(CheckpointError, match=f"checkpoint {uri} cannot be read: no access when listing") as caught:
        fetch(uri)
    assert "canary" not in str(caught.value)
    assert len(s3_proxy.seen) == 1


@pytest.mark.parametrize(
    "uri", ["s3://key:canary-secret@bucket/model", "https://canary-token@host/model", "https://host/m?sig=canary-sig"]
)
def test_uri_with_a_secret_is_refused_without_it(uri: str) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint: a URI must not contain a user.*://") as caught:
        fetch(uri)
    assert "canary" not in str(caught.value)


def test_checkpoint_replaced_during_its_download_is_refused(uri: str, s3, cache: Path, monkeypatch) -> None:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    download_file = download._download_file

    def replace_config(store, entry: Entry, target: Path) -> None:
        download_file(store, entry, target)
        s3.client.put_object(Bucket=bucket, Key=f"{key}/config.json", Body=f'{{"after": "{entry.key}"}}'.encode())

    monkeypatch.setattr(download, "_download_file", replace_config)
    with pytest.raises(CheckpointError, match=f"checkpoint {uri} changed during its download"):
        fetch(uri)
    assert list(cache.iterdir()) == []


def test_file_replaced_before_its_download_is_refused(uri: str, s3, cache: Path, monkeypatch) -> None:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    download_file = download._download_file

    def replace_before(store, entry: Entry, target: Path) -> None:
        s3.client.put_object(Bucket=bucket, Key=f"{key}/{entry.key}", Body=b"another")
        download_file(store, entry, target)

    monkeypatch.setattr(download, "_download_file", replace_before)
    with pytest.raises(CheckpointError, match=f"checkpoint {uri} changed during its download"):
        fetch(uri)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_absurdly_large_json_is_refused_before_its_download(uri: str, s3, cache: Path, name: str) -> None:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    s3.client.put_object(Bucket=bucket, Key=f"{key}/{name}", Body=bytes(9_000_000))
    with pytest.raises(CheckpointError, match=f"{uri}/{name} has 9,000,000 bytes, at most 8,388,608 are read"):
        fetch(uri)
    assert not cache.exists()


def test_no_config_is_named(s3) -> None:
    uri = s3.bucket("empty")
    with pytest.raises(CheckpointError, match=f"no config.json in {uri}/model"):
        fetch(f"{uri}/model")


def test_memory_uri_is_downloaded() -> None:
    memory = fsspec.filesystem("memory")
    for name, content in (FILES | OTHERS).items():
        memory.pipe_file(f"/checkpoint-in-memory/{name}", content)
    assert contents(fetch("memory://checkpoint-in-memory")) == FILES


def test_file_uri_is_the_folder_itself(tmp_path: Path) -> None:
    assert fetch(tmp_path.as_uri()) == tmp_path
