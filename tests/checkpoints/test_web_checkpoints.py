"""Checkpoints on web servers: with or without lists of files, versions, ranges, and for a while without answers."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoints import CheckpointError, fetch
from pipeline.storage import retry
from tests.checkpoints.test_download import FILES, OTHERS, cache, contents

__all__ = ["cache"]  # a fixture that all of these tests use
SHARD = "model-00002-of-00002.safetensors"


class WebServer(ThreadingHTTPServer):
    """Serves `folder` at `uri`, as python -m http.server does, without ranges and ETags.

    Attributes:
        lists: whether it answers a folder with a page of links.
        tells_time: whether it sends Last-Modified.
        statuses: of the next requests.
        silent_until: when connections are answered again.
        cut: names of files whose next answer is cut, and followed by `outage` seconds without any.
        halved: names of files whose next answer is a half of them, without a length that would tell it.
        seen: number of requests by method.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.server_port}/model"
        self.lists = self.tells_time = True
        self.statuses: list[int] = []
        self.silent_until, self.outage, self.refused = 0.0, 0.0, 0
        self.cut: set[str] = set()
        self.halved: set[str] = set()
        self.seen: Counter[str] = Counter()


class Handler(SimpleHTTPRequestHandler):
    """Answers the requests to a `WebServer`."""

    server: WebServer

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=str(arguments[2].folder))

    def handle_one(self, method: str) -> None:
        self.server.seen[method] += 1
        name = self.path.rpartition("/")[2]
        if time.monotonic() < self.server.silent_until:
            self.server.refused += 1
            self.close_connection = True
        elif self.server.statuses:
            self.send_error(self.server.statuses.pop(0))
        elif method == "GET" and name in self.server.cut:
            self.server.cut.remove(name)
            self.server.silent_until = time.monotonic() + self.server.outage
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"half")
        elif method == "GET" and name in self.server.halved:
            self.server.halved.remove(name)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(FILES[name][: len(FILES[name]) // 2])
        else:
            getattr(super(), f"do_{method}")()

    def do_GET(self) -> None:
        self.handle_one("GET")

    def do_HEAD(self) -> None:
        self.handle_one("HEAD")

    def list_directory(self, path: Any) -> Any:
        return super().list_directory(path) if self.server.lists else self.send_error(403)

    def send_header(self, keyword: str, value: str) -> None:
        if self.server.tells_time or keyword != "Last-Modified":
            super().send_header(keyword, value)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    (tmp_path / "public/model/runs").mkdir(parents=True)
    for name, content in (FILES | OTHERS).items():
        (tmp_path / "public/model" / name).write_bytes(content)
    with WebServer(tmp_path / "public") as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("lists", [True, False])
def test_checkpoint_is_found_whether_or_not_the_server_lists_its_folder(web: WebServer, lists: bool) -> None:
    web.lists = lists
    folder = fetch(web.uri)
    assert contents(folder) == FILES
    downloads = web.seen["GET"]
    assert fetch(f"{web.uri}/") == folder
    assert web.seen["GET"] - downloads < downloads - len(FILES) + 2, "only looked up"


def replace(web: WebServer, name: str, *, seconds: int = 0) -> bytes:
    """Replace a file with one of the same size, as many seconds later."""
    path = web.folder / "model" / name
    changed = path.stat().st_mtime + seconds
    path.write_bytes(os.urandom(path.stat().st_size))
    os.utime(path, (changed, changed))
    return path.read_bytes()


@pytest.mark.parametrize("tells_time", [True, False])
def test_replaced_checkpoint_of_the_same_size_is_noticed(web: WebServer, cache: Path, tells_time: bool) -> None:
    web.tells_time = tells_time
    before = fetch(web.uri)
    content = replace(web, SHARD, seconds=1 if tells_time else 0)
    after = fetch(web.uri)
    assert (contents(before), contents(after)) == (FILES, FILES | {SHARD: content})
    assert fetch(web.uri) == after
    assert sorted(cache.iterdir()) == sorted([before, after])


def test_error_of_the_server_is_not_taken_for_a_file_that_is_not_there(web: WebServer) -> None:
    web.statuses = [503] * 6  # preprocessor_config.json, which a checkpoint may lack, is looked up early
    assert contents(fetch(web.uri)) == FILES


@pytest.mark.parametrize("seconds", [2.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_download_survives_a_cut_connection_and_an_outage(web: WebServer, seconds: float) -> None:
    web.outage, web.cut = seconds, {SHARD}
    assert contents(fetch(web.uri)) == FILES
    assert web.refused > 3


@pytest.mark.parametrize("name", [SHARD, "model.safetensors.index.json"])
def test_half_of_a_file_is_asked_for_again(web: WebServer, name: str) -> None:
    web.halved = {name}
    assert contents(fetch(web.uri)) == FILES


def test_absurdly_large_json_is_refused_before_its_download(web: WebServer, cache: Path) -> None:
    (web.folder / "model/model.safetensors.index.json").write_bytes(bytes(9_000_000))
    with pytest.raises(CheckpointError, match=r"index\.json has 9,000,000 bytes, at most 8,388,608 are read"):
        fetch(web.uri)
    assert not cache.exists()


def test_server_that_stays_down_is_named(web: WebServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0)
    web.silent_until = time.monotonic() + 1000
    with pytest.raises(CheckpointError, match=f"checkpoint {web.uri} cannot be read: error when looking up"):
        fetch(web.uri)
    assert not cache.exists()


def test_no_config_is_named(web: WebServer) -> None:
    with pytest.raises(CheckpointError, match=f"no config.json in {web.uri}/runs/none"):
        fetch(f"{web.uri}/runs/none")
