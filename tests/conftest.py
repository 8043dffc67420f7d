"""What tests of several parts share: an S3 server in a process of its own, a wire to it that loses things, a Ray
cluster, a small checkpoint and pictures."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from PIL import Image

from tests.faults.faulty_proxy import Answer, Connection, FaultyProxy, Proxy, Request

# Where a shell runs the tests in the background they ignore Ctrl-C, and so would every process that a test starts.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# One request at a time: moto looks for the object and stores it in two steps, and a store's conditional put is one. A
# request is read before its turn: from a client that was killed in the middle the rest would never come.
# It ends with the process that started it, however that ends.
S3_SERVER = """
import io, os, sys, threading
os.environ["MOTO_S3_DEFAULT_MAX_KEYS"] = "100"  # short pages, so that tests turn them
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

moto, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

def application(environ, start_response):
    environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
    with lock:
        return list(moto(environ, start_response))

server = make_server("127.0.0.1", 0, application, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.port, flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, kw_only=True)
class S3:
    """An S3 server on loopback; its endpoint and credentials are in the environment."""

    endpoint: str
    client: Any  # of boto3: another client than the one under test

    def bucket(self, name: str) -> str:
        """A new, empty bucket's URI; its name starts with `name`."""
        bucket = f"{name}-{uuid.uuid4().hex[:8]}"
        self.client.create_bucket(Bucket=bucket)
        return f"s3://{bucket}"


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 server that other processes reach too: they inherit what this sets in the environment."""
    command = [sys.executable, "-c", S3_SERVER]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        assert server.stdout is not None
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing-key-id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret-canary")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("AWS_SESSION_TOKEN", raising=False)
        patch.delenv("AWS_PROFILE", raising=False)
        yield S3(endpoint=endpoint, client=boto3.client("s3"))
        server.terminate()


class RecordingProxy(Proxy):
    """A proxy before the S3 server, which does to requests what it is told and keeps a list of its answers."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.seen: list[tuple[str, str, dict[str, str], int]] = []  # method, path, headers, bytes answered
        self.without_header: str | None = None  # taken from every request
        self.lose_answers = 0  # so many PUTs reach the store, their answers nobody
        self.statuses: list[int | tuple[int, str]] = []  # answered instead of asking the store, with a code or none
        self.stalled: threading.Event | None = None  # no answer to anything until it is set

    def handle(self, request: Request, connection: Connection) -> None:
        if self.stalled is not None:
            self.stalled.wait()
        if self.statuses:
            status = self.statuses.pop(0)
            answer = Answer.failed(*status) if isinstance(status, tuple) else Answer(status=status)
        else:
            request.headers.pop((self.without_header or "").lower(), None)
            answer = self.forward(request)
            if request.method == "PUT" and self.lose_answers:
                self.lose_answers -= 1
                connection.close()
                return
        self.seen.append((request.method, request.path, request.headers, len(answer.body)))
        connection.answer(answer)


@pytest.fixture
def s3_proxy(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingProxy]:
    """The way from this process to the S3 server, for stores that connect during the test."""
    with RecordingProxy(s3.endpoint) as s3_proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_proxy.endpoint)
        yield s3_proxy


@pytest.fixture
def faulty_s3(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FaultyProxy]]:
    """`faulty_s3(rate=0.2, seed=7)`: from then on, a way to the S3 server on which that share of the requests fails, for
    stores that connect during the test and processes that start in it."""
    with contextlib.ExitStack() as running:

        def start(**faults: Any) -> FaultyProxy:
            proxy = running.enter_context(FaultyProxy(s3.endpoint, **faults))
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
            return proxy

        yield start


@pytest.fixture(scope="session")
def cluster(s3: S3) -> Iterator[None]:
    """One Ray cluster of two CPUs for the session; its workers know the S3 server."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=200 << 20,
            log_to_driver=False,
            logging_level="ERROR",
            # A worker costs a second of CPU to start: those of one test wait for the next one's tasks.
            _system_config={"idle_worker_killing_time_threshold_ms": 3_600_000, "num_workers_soft_limit": 12},
        )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image model with random weights, saved by transformers, that reads pictures of 32 × 32."""
    from pipeline.reference.published_configs import small
    from pipeline.reference.random_checkpoints import make_checkpoint

    name = "PerceiverForImageClassificationFourier"
    folder = make_checkpoint(name, small(name), tmp_path_factory.mktemp("checkpoint") / "model")
    sides = {"size": {"height": 32, "width": 32}, "crop_size": {"height": 36, "width": 36}}
    (folder / "preprocessor_config.json").write_text(json.dumps(sides))
    return folder


@pytest.fixture(scope="session")
def write_images() -> Callable[..., None]:
    """`write_images(folder, numbers, damaged=())`: files like `0007.png`, `0008.jpg` of several sizes and modes."""

    def put(folder: Path, numbers: Iterable[int], damaged: Collection[int] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            colours = np.random.default_rng(number)
            height, width = (int(side) for side in colours.integers(30, 90, 2))
            pixels = colours.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
            picture = Image.fromarray(pixels).resize((width, height)).convert("L" if number % 5 == 1 else "RGB")
            path = folder / f"{number:04d}.{'png' if number % 2 else 'jpg'}"
            picture.save(path)
            if number in damaged:
                path.write_bytes(path.read_bytes()[:40])

    return put


@pytest.fixture
def image_folder(tmp_path: Path, write_images: Callable[..., None]) -> Path:
    """A folder of 60 picture files, of which 5, 17, 18, 42 and 59 are damaged."""
    write_images(tmp_path / "images", range(60), damaged=(5, 17, 18, 42, 59))
    return tmp_path / "images"
