"""An address where no Ray cluster answers: one sentence that names where it is configured, and what to do."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from pipeline.runtime.errors import UsageError
from pipeline.runtime.ray_backend import cluster_address
from pipeline.runtime.ray_backend.cluster_address import find_address

PERCEIVER = Path(sys.executable).parent / "perceiver"
SETTINGS_FRAME = b"\0\0\0\4\0\0\0\0\0"  # that a gRPC server sends to a new connection


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], str]:
    """Without an address; `configured(address)` writes Ray's file of the last cluster and returns its path."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(cluster_address, "ANSWER_SECONDS", 1.0)

    def write(address: str) -> str:
        file = tmp_path / "ray" / "ray_current_cluster"
        file.parent.mkdir()
        file.write_text(address)
        return str(file)

    return write


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as unused:
        unused.bind(("", 0))
        return unused.getsockname()[1]


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket that accepts connections and never answers."""
    with socket.create_server(("", 0)) as listening:
        yield listening


def answer(listening: socket.socket, data: bytes, after: float = 0.0) -> None:
    """Answer the next connection in a thread, after some seconds."""

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(100)
            time.sleep(after)
            connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()


def refusal(address: str | None) -> str:
    """Return the error of an address where no cluster answers."""
    found = find_address(address)
    assert found is not None
    with pytest.raises(UsageError) as refused:
        found.check()
    return str(refused.value)


def address_of(listening: socket.socket) -> str:
    return f"127.0.0.1:{listening.getsockname()[1]}"


def test_dead_address_in_the_option_is_named(unused_port):
    address = f"127.0.0.1:{unused_port}"
    assert refusal(address) == (
        f"no Ray cluster answers at address ({address}): Connection refused; start the cluster or correct the address; "
        "`local` starts a cluster for this run"
    )
    assert f"address (ray://{address}): Connection refused" in refusal(f"ray://{address}")


@pytest.mark.parametrize("option", [None, "auto"])
def test_dead_address_in_the_variable_is_named(unused_port, monkeypatch, option):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{unused_port}")
    assert refusal(option) == (
        f"no Ray cluster answers at the address in the environment variable RAY_ADDRESS (127.0.0.1:{unused_port}): "
        "Connection refused; start the cluster, or correct or unset the variable"
    )


def test_dead_address_in_the_file_of_the_last_cluster_is_named(unused_port, configured):
    file = configured(f"127.0.0.1:{unused_port}")
    assert refusal(None) == (
        f"no Ray cluster answers at 127.0.0.1:{unused_port}, the address of the last cluster in {file}: Connection "
        "refused; start the cluster again, or delete the file, as `ray stop` does"
    )


def test_option_has_precedence_over_variable_and_variable_over_file(configured, monkeypatch):
    assert find_address(None) is None
    configured("10.0.0.1:1111")
    assert find_address(None).address == "10.0.0.1:1111"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.2:2222")
    assert find_address(None).address == find_address("auto").address == "10.0.0.2:2222"
    assert find_address("10.0.0.3:3333").address == "10.0.0.3:3333"
    assert find_address("local") is None


def test_auto_without_a_cluster_on_this_machine_is_refused(monkeypatch):
    monkeypatch.setattr(cluster_address.services, "find_gcs_addresses", set)  # other tests may have a cluster
    with pytest.raises(
        UsageError, match=r"^address \(auto\) is for a Ray cluster of this machine, and there is none: "
    ):
        find_address("auto")


@pytest.mark.parametrize(
    "address", ["user:canary@10.0.0.1:1", "ray://user:canary@10.0.0.1:1", "ray://canary@10.0.0.1:1"]
)
def test_address_with_a_password_is_refused_without_it(address, monkeypatch):
    words = r"\(\*\*\*@10.0.0.1:1\) must not contain a user or password; the token of a cluster is in"
    with pytest.raises(UsageError, match=f"^address {words}"):
        find_address(address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UsageError, match=f"^the environment variable RAY_ADDRESS {words}"):
        find_address(None)


def test_address_of_an_unknown_kind_is_refused():
    words = "an address is HOST:PORT with the port of the head, as in 10.0.0.5:6379, or ray://HOST:10001"
    for address in ("s3://head:10001", "http://head:8265", "a b://head:10001"):
        assert words in refusal(address)


def test_program_that_accepts_connections_and_never_answers_is_not_waited_for(listening):
    started = time.monotonic()
    assert f"address ({address_of(listening)}): timed out; start the cluster" in refusal(address_of(listening))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("data", "cause"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "another program than Ray answers there"), (b"", "without an answer")],
)
def test_another_program_at_the_address_is_said(listening, monkeypatch, data, cause):
    monkeypatch.setattr(cluster_address, "ANSWER_SECONDS", 0.2)
    answer(listening, data)
    assert cause in refusal(address_of(listening))


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:8265", "10.0.0.1", "10.0.0.1:port"])
def test_address_of_another_form_is_refused_with_the_right_one(address):
    started = time.monotonic()
    assert f"no Ray cluster answers at address ({address}): " in refusal(address)
    assert time.monotonic() - started < 1


def test_cluster_that_starts_or_answers_late_is_waited_for(unused_port, monkeypatch):
    monkeypatch.setattr(cluster_address, "ANSWER_SECONDS", 8.0)

    def start() -> None:
        time.sleep(0.7)
        with socket.create_server(("", unused_port)) as listening:
            answer(listening, SETTINGS_FRAME, after=1.0)
            time.sleep(2)

    threading.Thread(target=start, daemon=True).start()
    started = time.monotonic()
    find_address(f"127.0.0.1:{unused_port}").check()
    assert time.monotonic() - started > 1.5


JOINED = """
import ray
from pipeline.runtime.ray_backend.connect import ray_connection
with ray_connection(None):
    print(ray.get_runtime_context().gcs_address)
"""


def test_cluster_that_answers_and_refuses_may_have_a_token():
    refused = find_address("127.0.0.1:6379").refusal(ConnectionError("Failed to connect to Ray cluster"))
    assert str(refused) == (
        "Ray does not connect to the cluster at address (127.0.0.1:6379): Failed to connect to Ray cluster; if the "
        "cluster has a token, as by default where ~/.ray/auth_token exists, set RAY_AUTH_MODE=token, or else start the "
        "cluster or correct the address; `local` starts a cluster for this run"
    )


def test_living_cluster_is_joined(cluster):
    address = ray.get_runtime_context().gcs_address
    environment = os.environ | {"RAY_ADDRESS": address}
    ended = subprocess.run([sys.executable, "-c", JOINED], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == address


@pytest.mark.parametrize(
    ("verb", "number"), [("run", signal.SIGTERM), ("run", signal.SIGINT), ("plan", signal.SIGTERM)]
)
@pytest.mark.slow
def test_signal_while_connecting_ends_the_command_at_once(listening, image_folder, checkpoint, tmp_path, verb, number):
    command = [PERCEIVER, verb, "image-classification", image_folder, tmp_path / "out", "--checkpoint", checkpoint]
    environment = os.environ | {"RAY_ADDRESS": address_of(listening)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as running:
        listening.settimeout(60)
        connection, _ = listening.accept()  # it is connecting
        running.send_signal(number)
        sent = time.monotonic()
        _, printed = running.communicate(timeout=30)
    connection.close()
    assert time.monotonic() - sent < 5
    assert running.returncode == 1
    assert f"error: stopped by {number.name}; the same command resumes the run" in printed
    assert "Traceback" not in printed
