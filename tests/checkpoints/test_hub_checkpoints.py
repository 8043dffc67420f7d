"""Checkpoints on the Hugging Face Hub, which an imitation of it serves: an outage in the middle of a download."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.checkpoints.test_download import contents

COMMIT = "0f" * 20
FILES = {"config.json": b'{"architectures": ["PerceiverModel"]}', "model.safetensors": os.urandom(100_000)}


class Hub(ThreadingHTTPServer):
    """Serves the model someone/model. The first download of its weights is cut, and an outage begins.

    Attributes:
        outage: its seconds.
        silent_until: the end of the outage.
        refused: number of requests during the outage.
    """

    def __init__(self, outage: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.outage, self.silent_until, self.refused = outage, 0.0, 0
        self.endpoint = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answers the requests to a `Hub`."""

    server: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if time.monotonic() < self.server.silent_until:
            self.server.refused += 1
            self.close_connection = True
        elif path.startswith("/api/models/someone/model"):
            entries = [
                {"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": name}
                for name, data in FILES.items()
            ]
            known = entries if "/tree/" in path else {"id": "someone/model", "sha": COMMIT}
            self._answer(json.dumps(known).encode(), "application/json")
        elif (name := path.rpartition("/")[2]) in FILES:
            cut = self.command == "GET" and name.startswith("model") and not self.server.silent_until
            self.server.silent_until = time.monotonic() + self.server.outage if cut else self.server.silent_until
            self._answer(FILES[name], "application/octet-stream", cut=cut)
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, data: bytes, kind: str, *, cut: bool = False) -> None:
        begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if begin else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data) - begin))
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[begin : begin + 10 if cut else None])

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    with Hub(request.param) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def fetched(endpoint: str, folder: Path, *, retry_seconds: float = 120.0) -> str:
    """Fetch the checkpoint in a new process, since the Hub's client reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    code = (
        "from pipeline.checkpoints import CheckpointError, fetch\n"
        f"from pipeline.storage import retry; retry.RETRY_SECONDS = {retry_seconds}\n"
        "try: print(fetch('someone/model'))\nexcept CheckpointError as error: print(error)"
    )
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | settings, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("hub", [30.0], indirect=True)
def test_download_from_the_hub_survives_an_outage(hub: Hub, tmp_path: Path) -> None:
    assert contents(Path(fetched(hub.endpoint, tmp_path))) == FILES
    assert hub.refused > 3


@pytest.mark.parametrize("hub", [2.0, pytest.param(30.0, marks=pytest.mark.slow)], indirect=True)
def test_outage_that_began_before_the_first_request_is_survived(hub: Hub, tmp_path: Path) -> None:
    hub.silent_until = time.monotonic() + hub.outage + 1
    assert contents(Path(fetched(hub.endpoint, tmp_path))) == FILES
    assert hub.refused > 1


@pytest.mark.parametrize("hub", [1000.0], indirect=True)
def test_hub_that_does_not_answer_is_named(hub: Hub, tmp_path: Path) -> None:
    hub.silent_until = time.monotonic() + hub.outage
    words = "checkpoint someone/model is not a local folder; the download from the Hub failed too: "
    assert fetched(hub.endpoint, tmp_path, retry_seconds=0).startswith(words)


@pytest.mark.slow
def test_no_network_is_told_without_retries(tmp_path: Path) -> None:
    began = time.monotonic()
    assert "the download from the Hub failed too: " in fetched("http://hub.invalid", tmp_path)
    assert time.monotonic() - began < 60, "the Hub's own client takes 24 seconds"
