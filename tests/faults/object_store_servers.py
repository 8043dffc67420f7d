"""An S3 server and a faulty proxy as processes that end with the block or with the process that started them."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from tests.conftest import S3_SERVER
from tests.faults.faulty_proxy import COUNTS


@contextmanager
def s3_server() -> Iterator[str]:
    """Start an empty S3 server and yield its endpoint."""
    with _listening(["-c", S3_SERVER]) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def faulty_way(upstream: str, *, rate: float, seed: int) -> Iterator[str]:
    """Start a proxy that fails that share of the requests, and yield its endpoint."""
    command = ["-m", "tests.faults.faulty_proxy", "--upstream", upstream, "--rate", str(rate), "--seed", str(seed)]
    with _listening(command) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def listing_server(objects: int) -> Iterator[str]:
    """Start a server whose buckets list that many images, and yield its endpoint."""
    with _listening(["-m", "tests.faults.million_objects", "--objects", str(objects)]) as port:
        yield f"http://127.0.0.1:{port}"


def counts_of(endpoint: str) -> dict[str, int]:
    """Return the number of requests of a faulty proxy, and of faults by kind."""
    with closing(http.client.HTTPConnection(endpoint.removeprefix("http://"))) as connection:
        connection.request("GET", COUNTS)
        return json.loads(connection.getresponse().read())


@contextmanager
def _listening(arguments: Sequence[str]) -> Iterator[int]:
    """Start a Python process, which exits when its standard input closes, and yield the port that it prints."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, *arguments], **pipes) as server:
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()
