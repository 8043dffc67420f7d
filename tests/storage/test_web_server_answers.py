"""Inputs on a web server: answers that are slow, cut or not the server's are requested again, and never used."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, cast

import pytest

from pipeline.storage import Changed, StorageError, Store, retry
from pipeline.storage.errors import Corrupt

CONTENT = os.urandom(200_000)
PAGE = b"<html><body>Please log in</body></html>"


class Handler(BaseHTTPRequestHandler):
    """Serves one file, whole and in ranges, with the next `left` answers to a method damaged."""

    protocol_version = "HTTP/1.1"
    fault: ClassVar[str] = ""
    left: ClassVar[int] = 0
    method: ClassVar[str] = "GET"

    def do_GET(self) -> None:
        body = CONTENT
        is_chosen = Handler.method in (self.command, "any")
        Handler.left -= is_chosen
        fault = Handler.fault if is_chosen and Handler.left >= 0 else ""
        given = None if fault == "no ranges" else self.headers.get("Range")
        if given is not None:
            begin, end = given.removeprefix("bytes=").split("-")
            body = body[int(begin) : int(end) + 1]
        body = {"cut": body[: len(body) // 2], "page": PAGE}.get(fault, body)
        self.send_response(206 if given else 200)
        if fault != "page":
            self.send_header("ETag", '"two"' if fault == "another version" else '"one"')
        if fault != "no size":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        for at in range(0, len(body), step := 1 if fault == "trickle" else len(body)):
            self.wfile.write(body[at : at + step])
            time.sleep(0.1 if fault == "trickle" else 0)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(Handler, "left", 0)
    monkeypatch.setattr(Handler, "fault", "")
    monkeypatch.setattr(Handler, "method", "GET")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield Store(f"http://127.0.0.1:{server.server_port}/in")
    server.shutdown()
    server.server_close()


def open_and_read(store: Store) -> bytes:
    with store.open("file", version="one", size=len(CONTENT)) as file:
        return file.read()


READS: list[Callable[[Store], bytes]] = [
    lambda store: store.read("file", version="one", size=len(CONTENT)),
    lambda store: store.read("file", version="one"),
    open_and_read,
]


def assert_asked_three_times(store: Store, read: Callable[[Store], bytes], reason: str) -> None:
    """Assert that a read survives two wrong answers, and raises Corrupt for this reason after three."""
    Handler.left = 2
    assert read(store) == CONTENT
    assert Handler.left == -1
    Handler.left = 99
    with pytest.raises(Corrupt, match=f"^{store.uri}/file: .*{reason}"):
        read(store)
    assert Handler.left == 96


@pytest.mark.parametrize("fault", ["cut", "page"])
@pytest.mark.parametrize("read", READS)
def test_damaged_answer_is_requested_again_and_never_used(
    store: Store, read: Callable[[Store], bytes], fault: str
) -> None:
    Handler.fault = fault
    assert_asked_three_times(store, read, "received")


def test_trickling_answer_is_requested_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage.time_limits.MAX_LATENCY_SECONDS", 0.5)
    monkeypatch.setattr("pipeline.storage.time_limits.MIN_BYTES_PER_SECOND", 1 << 20)
    Handler.fault, began = "trickle", time.monotonic()
    for read in (READS[0], READS[2]):
        Handler.left = 1
        assert read(store) == CONTENT
    assert time.monotonic() - began < 20, "200,000 bytes would take hours"


@pytest.mark.parametrize(("fault", "reason"), [("cut", "100,000 bytes of 200,000"), ("page", "has no version")])
@pytest.mark.parametrize("read", [READS[0], READS[2]])
def test_wrong_look_up_is_repeated_and_is_no_other_version(
    store: Store, read: Callable[[Store], bytes], fault: str, reason: str
) -> None:
    """As a proxy gives it that stored half a file, or asks users to log in."""
    Handler.method, Handler.fault = "HEAD", fault
    assert_asked_three_times(store, read, reason)


def test_file_without_a_size_is_read_whole_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "protocol_version", "HTTP/1.0")  # the end of the connection is that of the body
    Handler.method, Handler.fault, Handler.left = "any", "no size", 99
    assert store.read("file", version="one") == CONTENT
    with pytest.raises(StorageError, match="the server does not tell the size, without which it cannot be read"):
        store.open("file")


def test_server_without_ranges_sends_a_file_once(store: Store) -> None:
    Handler.fault, Handler.left = "no ranges", 99
    with store.open("file", version="one", size=len(CONTENT)) as file:
        raw = cast(io.BufferedReader, file).raw
        assert [raw.read(1000), raw.read(1000), raw.read()] == [CONTENT[:1000], CONTENT[1000:2000], CONTENT[2000:]]
    assert Handler.left == 98


def test_file_that_is_replaced_while_it_is_read_is_a_change(store: Store) -> None:
    with store.open("file", version="one", size=len(CONTENT)) as file:
        raw = cast(io.BufferedReader, file).raw
        assert raw.read(1000) == CONTENT[:1000]
        Handler.fault, Handler.left = "another version", 99
        with pytest.raises(Changed, match=f"^{store.uri}/file changed while it was read"):
            raw.read(1000)
    assert Handler.left == 98
