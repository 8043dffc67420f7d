"""An S3 server, and a faulty way to it, as processes that end with the block, or with whoever started them."""

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
    """The endpoint of an empty S3 server."""
    with _listening(["-c", S3_SERVER]) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def faulty_way(upstream: str, *, rate: float, seed: int) -> Iterator[str]:
    """The endpoint of a proxy before it that lets that share of the requests fail."""
    command = ["-m", "tests.faults.faulty_proxy", "--upstream", upstream, "--rate", str(rate), "--seed", str(seed)]
    with _listening(command) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def listing_server(objects: int) -> Iterator[str]:
    """The endpoint of a server whose buckets list so many pictures."""
    with _listening(["-m", "tests.faults.million_objects", "--objects", str(objects)]) as port:
        yield f"http://127.0.0.1:{port}"


def counts_of(endpoint: str) -> dict[str, int]:
    """How many requests a faulty proxy has had, and faults by their kind."""
    with closing(http.client.HTTPConnection(endpoint.removeprefix("http://"))) as connection:
        connection.request("GET", COUNTS)
        return json.loads(connection.getresponse().read())


@contextmanager
def _listening(arguments: Sequence[str]) -> Iterator[int]:
    """The port that such a Python process prints. It ends when its standard input does."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, *arguments], **pipes) as server:
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()
