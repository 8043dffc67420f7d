"""Proxies in front of an S3 server: one whose subclass decides on faults, and one with random faults by seed.

Standalone, until its standard input closes: `python -m tests.faults.faulty_proxy --upstream URL --rate 0.05 --seed 7`.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

COUNTS = "/__counts"
STATUSES = {429: "TooManyRequests", 500: "InternalError", 502: None, 503: "SlowDown", 504: None}
KINDS = (*STATUSES, "reset", "lost", "cut", "stalled")


@dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]  # by lower-case names
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def failed(cls, status: int, code: str | None = None) -> Answer:
        """Return an S3 error with a code, or without one the error page of a load balancer."""
        if code is None:
            return cls(status=status, headers={"Content-Type": "text/html"}, body=b"<html>not now</html>")
        body = f"<Error><Code>{code}</Code><Message>not now</Message></Error>"
        return cls(status=status, headers={"Content-Type": "application/xml"}, body=body.encode())


class Proxy:
    """Forwards to an S3 server; subclasses decide in `handle` what to do with each request."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream.removeprefix("http://")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.proxy = self  # type: ignore[attr-defined]
        self.port = self._server.server_port
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handle(self, request: Request, connection: Connection) -> None:
        """Answer the request, or leave it unanswered."""
        connection.answer(self.forward(request))

    def forward(self, request: Request) -> Answer:
        """Forward a request and return the response of the server."""
        upstream = http.client.HTTPConnection(self.upstream)
        with contextlib.closing(upstream):
            upstream.request(request.method, request.path, body=request.body, headers=request.headers)
            answer = upstream.getresponse()
            return Answer(status=answer.status, headers=dict(answer.getheaders()), body=answer.read())


class Connection:
    """The connection to the client of one request."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._handler = handler

    def answer(self, answer: Answer, *, cut: bool = False) -> None:
        """Send a response, optionally truncated in the middle of the promised body."""
        handler = self._handler
        self._send_head(answer)
        if handler.command != "HEAD":
            handler.wfile.write(answer.body[: len(answer.body) // 2] if cut else answer.body)
        if cut:
            self.close()

    def trickle(self, answer: Answer, *, seconds: float) -> None:
        """Send a response, its body byte by byte with a pause after each, until the client has enough of it."""
        self._send_head(answer)
        for byte in answer.body:
            self._handler.wfile.write(bytes([byte]))
            time.sleep(seconds)

    def _send_head(self, answer: Answer) -> None:
        handler = self._handler
        handler.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("transfer-encoding", "connection"):
                handler.send_header(name, value)
        if "content-length" not in map(str.lower, answer.headers):
            handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()

    def close(self) -> None:
        """Close without a response."""
        self._handler.close_connection = True

    def reset(self) -> None:
        """Reset the connection."""
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections, and answers `Expect: 100-continue`
    disable_nagle_algorithm = True  # headers and body are two writes

    def handle_one(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        request = Request(method=self.command, path=self.path, headers=headers, body=body)
        self.server.proxy.handle(request, Connection(self))  # type: ignore[attr-defined]

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_one  # noqa: N815

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client disconnected
            super().handle()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class FaultyProxy(Proxy):
    """Fails a share `rate` of the requests, reproducibly by seed.

    A failed request is refused with a status, reset before it reaches the store, executed without a response, answered
    with a truncated body, or delayed by `stall` seconds. `/__counts` returns the numbers of requests and of faults.
    """

    def __init__(self, upstream: str, *, rate: float, seed: int, stall: float = 3.0, kinds: tuple = KINDS) -> None:
        super().__init__(upstream)
        self.rate, self.stall, self.kinds = rate, stall, kinds
        self.counts: Counter[str] = Counter()
        self._random, self._lock = random.Random(seed), threading.Lock()

    def handle(self, request: Request, connection: Connection) -> None:
        if request.path == COUNTS:
            connection.answer(Answer(status=200, body=json.dumps(self.counts).encode()))
            return
        kind = self._draw(request.method)
        if kind in STATUSES:
            connection.answer(Answer.failed(int(kind), STATUSES[int(kind)]))
        elif kind == "reset":
            connection.reset()
        elif kind == "lost":
            self.forward(request)
            connection.reset()
        else:
            time.sleep(self.stall if kind == "stalled" else 0)
            connection.answer(self.forward(request), cut=kind == "cut")

    def _draw(self, method: str) -> int | str | None:
        """Return the fault of the next request, None for most of them."""
        with self._lock:
            kind = self._random.choice(self.kinds) if self._random.random() < self.rate else None
            kind = "lost" if kind == "cut" and method != "GET" else kind  # other requests have no body to truncate
            self.counts.update(["requests"] if kind is None else ["requests", "faults", str(kind)])
            return kind


def main() -> None:
    parser = argparse.ArgumentParser(description="Prints the port of a proxy that is faulty by a seed.")
    parser.add_argument("--upstream", required=True, help="URL of the S3 server")
    parser.add_argument("--rate", type=float, default=0.05, help="share of requests that fail")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stall", type=float, default=3.0, help="seconds that a stalled request waits")
    arguments = parser.parse_args()
    with FaultyProxy(arguments.upstream, rate=arguments.rate, seed=arguments.seed, stall=arguments.stall) as proxy:
        print(proxy.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
