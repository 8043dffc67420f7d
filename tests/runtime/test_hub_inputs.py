"""Read datasets of the Hugging Face Hub through its own client, from a local server that imitates the Hub."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.reference.published_configs import SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from tests import reference_outputs

TEXTS = [f"text number {number}" for number in range(24)]


class Hub:
    """The API responses and files of one dataset, `someone/texts`, at its main revision."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.seen: list[tuple[str, str | None]] = []

    def api(self, path: str) -> object | None:
        """Return the API response for a path, or None if it does not exist."""
        at = path.removeprefix("/api/datasets/someone/texts")
        if at == path:
            return None
        if at in ("", "/revision/main"):
            return {"id": "someone/texts", "sha": "0f" * 20, "siblings": [], "private": False, "tags": []}
        folder = at.removeprefix("/tree/main").strip("/")
        below = [key for key in self.files if not folder or key.startswith(f"{folder}/")]
        cut = len(folder) + bool(folder)
        folders = sorted({key[: key.index("/", cut)] for key in below if "/" in key[cut:]})
        found = [{"type": "directory", "oid": "0e" * 20, "size": 0, "path": path} for path in folders]
        return found + [self._entry(key) for key in below if "/" not in key[cut:]]

    def _entry(self, key: str) -> dict[str, object]:
        data = self.files[key]
        return {"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": key}


@pytest.fixture
def hub() -> Iterator[tuple[Hub, str]]:
    """The imitated Hub and its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, span = unquote(urlsplit(self.path).path), self.headers.get("Range")
            hub.seen.append((path, span))
            prefix = "/datasets/someone/texts/resolve/main/"
            if path.startswith(prefix) and path.removeprefix(prefix) in hub.files:
                data = hub.files[path.removeprefix(prefix)]
                begin, end = (span or f"bytes=0-{len(data) - 1}").removeprefix("bytes=").split("-")
                self._answer(206 if span else 200, data[int(begin) : int(end or len(data)) + 1])
            elif (known := hub.api(path)) is not None:
                self._answer(200, json.dumps(known).encode())
            else:
                self._answer(404, b"{}")

        do_HEAD = do_GET  # noqa: N815

        def _answer(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    hub = Hub({})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield hub, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m jobs.run` in a new process, because the Hub client reads its address when it is imported."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "jobs.run", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_hub_dataset_is_labelled(hub: tuple[Hub, str], tmp_path: Path) -> None:
    served, endpoint = hub
    for part, texts in enumerate((TEXTS[:10], TEXTS[10:])):
        file = io.BytesIO()
        pq.write_table(pa.table({"text": texts, "number": range(len(texts))}), file, row_group_size=4)
        served.files[f"data/train-{part}.parquet"] = file.getvalue()
    served.files["README.md"] = b"---\n---"
    folder = make_checkpoint(SEQUENCE, small(SEQUENCE), tmp_path / "model")
    source, output = "hf://datasets/someone/texts", str(tmp_path / "out")
    given = ["text-classification", source, output, "--checkpoint", str(folder), "--logits", "--keep-columns", "number"]
    done = run(endpoint, *given)
    assert done.returncode == 0, done.stderr
    rows = [row for part in sorted((tmp_path / "out/predictions").iterdir()) for row in pq.read_table(part).to_pylist()]
    assert [row["id"] for row in rows][:2] == ["data/train-0.parquet#0", "data/train-0.parquet#1"]
    assert [row["number"] for row in rows] == [*range(10), *range(14)]
    expected = reference_outputs.text_logits(folder, TEXTS)
    np.testing.assert_allclose([row["logits"] for row in rows], expected, rtol=1e-3, atol=1e-3 * np.ptp(expected))
    assert any(span for _, span in served.seen), "read by ranges"
    assert rows[0]["version"] == hashlib.sha1(served.files["data/train-0.parquet"]).hexdigest()


def test_hub_is_never_written_to(hub: tuple[Hub, str], tmp_path: Path) -> None:
    _, endpoint = hub
    (tmp_path / "a.txt").write_text("a line")
    folder = make_checkpoint(SEQUENCE, small(SEQUENCE), tmp_path / "model")
    given = ["text-classification", str(tmp_path / "a.txt"), "hf://datasets/someone/texts/out", "--checkpoint"]
    done = run(endpoint, *given, str(folder))
    assert done.returncode == 2
    assert "hf:// cannot be written to" in done.stderr
