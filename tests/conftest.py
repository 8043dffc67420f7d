"""Fixtures for all tests: an S3 server and proxies in front of it, a Ray cluster, a small checkpoint, image files.

Fixtures import large libraries themselves: pytest-xdist loads this file first in a process that runs no test.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.faults.faulty_proxy import Answer, Connection, FaultyProxy, Proxy, Request
from tests.forked_workers import client
from tests.forked_workers.server import worker_server

# A shell that runs the tests in the background makes them ignore Ctrl-C, and so would every process that they start.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The server handles one request at a time, because moto looks up and stores an object in two steps, but a conditional
# put must be atomic. It reads each request before taking the lock: a killed client never sends the rest of its request.
# The server exits when its standard input closes, so it never outlives the process that started it.
S3_SERVER = """
import io, os, sys, threading
os.environ["MOTO_S3_DEFAULT_MAX_KEYS"] = "100"  # short pages, so that listings have several
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
    """An S3 server on loopback, whose endpoint and credentials are set in the environment."""

    endpoint: str
    client: Any  # a boto3 client, independent of the code under test

    def bucket(self, name: str) -> str:
        """Create an empty bucket whose name starts with `name`, and return its URI."""
        bucket = f"{name}-{uuid.uuid4().hex[:8]}"
        self.client.create_bucket(Bucket=bucket)
        return f"s3://{bucket}"


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 server for this process and its children, which inherit the environment variables set here."""
    import boto3

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
    """A proxy in front of the S3 server that records requests and can drop, delay or fail them."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.seen: list[tuple[str, str, dict[str, str], int]] = []  # method, path, headers, size of the response
        self.without_header: str | None = None  # removed from every request
        self.lose_answers = 0  # number of PUTs that are stored, but whose responses are lost
        self.statuses: list[int | tuple[int, str]] = []  # responses to give without forwarding
        self.stalled: threading.Event | None = None  # blocks every request until it is set

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
    """A `RecordingProxy` to the S3 server, used by every store that connects during the test."""
    with RecordingProxy(s3.endpoint) as s3_proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_proxy.endpoint)
        yield s3_proxy


@pytest.fixture
def faulty_s3(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FaultyProxy]]:
    """`faulty_s3(rate=0.2, seed=7)`: start a proxy that fails that share of the requests to the S3 server.

    Stores that connect and processes that start afterwards use it.
    """
    with contextlib.ExitStack() as running:

        def start(**faults: Any) -> FaultyProxy:
            proxy = running.enter_context(FaultyProxy(s3.endpoint, **faults))
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
            return proxy

        yield start


@pytest.fixture(scope="session")
def cluster(s3: S3) -> Iterator[None]:
    """One Ray cluster with two CPUs for all tests of a process; its workers can reach the S3 server."""
    import ray
    from ray._private import ray_constants

    with worker_server() as variables:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in ({"RAY_BACKEND_LOG_LEVEL": "fatal"} | dict(variables)).items():
                patch.setenv(name, value)
            patch.setattr(ray_constants, "SETUP_WORKER_FILENAME", client.__file__)
            ray.init(
                address="local",
                num_cpus=2,
                include_dashboard=False,
                object_store_memory=200 << 20,
                log_to_driver=False,
                logging_level="ERROR",
                # Even a forked worker takes a CPU second to start, so idle ones are kept for the next test.
                _system_config={"idle_worker_killing_time_threshold_ms": 3_600_000, "num_workers_soft_limit": 12},
            )
            # Ray sets token mode here, but not before 2.59: a driver needs to be told that there is no token.
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        yield
        ray.shutdown()


@pytest.fixture(params=["in this process", pytest.param("on ray", marks=pytest.mark.slow)])
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs of the test execute their stages in this process and, if slow tests are selected, on the cluster as well."""
    import ray

    from tests.runs_in_process import use_this_process

    if request.param == "on ray":
        request.getfixturevalue("cluster")
    is_connected = ray.is_initialized()
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "in this process":
            use_this_process(patch)
        yield
    assert ray.is_initialized() == is_connected, "a run of this test started Ray"


@pytest.fixture
def described_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare runs without Ray: preparation needs only the nodes of the cluster."""
    from tests.runs_in_process import use_this_process

    use_this_process(monkeypatch)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image model with random weights, saved by transformers, for images of 32 × 32 pixels."""
    from pipeline.reference.published_configs import small
    from pipeline.reference.random_checkpoints import make_checkpoint

    name = "PerceiverForImageClassificationFourier"
    folder = make_checkpoint(name, small(name), tmp_path_factory.mktemp("checkpoint") / "model")
    sides = {"size": {"height": 32, "width": 32}, "crop_size": {"height": 36, "width": 36}}
    (folder / "preprocessor_config.json").write_text(json.dumps(sides))
    return folder


@pytest.fixture(scope="session")
def write_images() -> Callable[..., None]:
    """`write_images(folder, numbers, damaged=())`: write `0007.png`, `0008.jpg`, … of several sizes and modes."""

    def put(folder: Path, numbers: Iterable[int], damaged: Collection[int] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            random = np.random.default_rng(number)
            height, width = (int(side) for side in random.integers(30, 90, 2))
            pixels = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
            image = Image.fromarray(pixels).resize((width, height)).convert("L" if number % 5 == 1 else "RGB")
            path = folder / f"{number:04d}.{'png' if number % 2 else 'jpg'}"
            image.save(path)
            if number in damaged:
                path.write_bytes(path.read_bytes()[:40])

    return put


@pytest.fixture
def image_folder(tmp_path: Path, write_images: Callable[..., None]) -> Path:
    """A folder of 60 image files, of which numbers 5, 17, 18, 42 and 59 are damaged."""
    write_images(tmp_path / "images", range(60), damaged=(5, 17, 18, 42, 59))
    return tmp_path / "images"


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`checkpoints(model_class, **changes)`: a small random checkpoint, made once per session."""
    from pipeline.reference.published_configs import small
    from pipeline.reference.random_checkpoints import make_checkpoint

    made: dict[str, Path] = {}

    def make(model_class: str, **changes: Any) -> Path:
        name = f"{model_class}-{changes}"
        if name not in made:
            folder = tmp_path_factory.mktemp("checkpoint") / "model"
            made[name] = make_checkpoint(model_class, small(model_class, **changes), folder)
        return made[name]

    return make


@pytest.fixture(scope="session")
def image_run(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """OUTPUT of `example_runs.image_run`, which tests must not change."""
    from tests import example_runs

    return example_runs.image_run(tmp_path_factory.mktemp("image-run"), checkpoint)


@pytest.fixture(scope="session")
def flow_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUTPUT of `example_runs.flow_run`, which tests must not change."""
    from tests import example_runs

    return example_runs.flow_run(tmp_path_factory.mktemp("flow-run"))


@pytest.fixture(scope="session")
def clip_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUTPUT of `example_runs.clip_run`, which tests must not change."""
    from tests import example_runs

    return example_runs.clip_run(tmp_path_factory.mktemp("clip-run"))
