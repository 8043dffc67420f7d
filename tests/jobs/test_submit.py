"""Jobs on a real Ray head with a dashboard and a token: what is submitted runs there, and ends here as it did there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from pipeline.storage import Store
from tests.faults.canary_secrets import CREDENTIALS, found_in

BIN = Path(sys.executable).parent


@dataclass(frozen=True, kw_only=True)
class Head:
    """A Ray head of two CPUs. folder: of its own files. env: of its processes, and of those that talk to it, with
    canaries for secrets, its token among them."""

    address: str
    folder: Path
    env: dict[str, str]

    def get(self, path: str) -> Any:
        request = urllib.request.Request(self.address + path)
        request.add_header("Authorization", f"Bearer {self.env['RAY_AUTH_TOKEN']}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def ended(self, job: str) -> Any:
        """What is known of a job, once it has ended."""
        deadline = time.monotonic() + 60
        while (known := self.get(f"/api/jobs/{job}"))["status"] in ("PENDING", "RUNNING"):
            assert time.monotonic() < deadline, known
            time.sleep(0.3)
        return known

    def tell(self, *command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment's, with its output."""
        words = [str(BIN / command[0]), *map(str, command[1:])]
        ended = subprocess.run(words, env=self.env | env, capture_output=True, text=True, timeout=120, check=False)
        assert found_in(out=ended.stdout, err=ended.stderr) == []
        return ended


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


@pytest.fixture(scope="module")
def head(s3: Any) -> Iterator[Head]:
    """Its jobs know the S3 server, by the head's environment."""
    dashboard, agent, client = free_ports(3)
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the path of a socket has at most 107 bytes
    env = (
        os.environ
        | CREDENTIALS
        | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_BACKEND_LOG_LEVEL": "fatal",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
        }
    )
    env.pop("RAY_ADDRESS", None)
    head = Head(address=f"http://127.0.0.1:{dashboard}", folder=Path(folder), env=env)
    command = [
        str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2", "--port=0", f"--temp-dir={folder}",
        "--object-store-memory=200000000", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}",
    ]  # fmt: skip
    started = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(head, started)
        yield head
    finally:
        processes = [*psutil.Process(started.pid).children(recursive=True), psutil.Process(started.pid)]
        for process in processes:
            process.terminate()
        for process in psutil.wait_procs(processes, timeout=5)[1]:
            process.kill()
        started.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(head: Head, started: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert started.poll() is None
        try:
            head.get("/api/jobs/")
        except (OSError, urllib.error.URLError):
            assert time.monotonic() < deadline
            time.sleep(0.3)
        else:
            return


@pytest.fixture
def job(tmp_path: Path, checkpoint: Path, s3: Any, write_images: Callable[..., None]) -> Callable[..., tuple[str, str]]:
    """`job(damaged=(), **options)`: a job file for ten pictures on S3, and the URI of its output."""

    def write(damaged: tuple[int, ...] = (), **options: Any) -> tuple[str, str]:
        bucket = s3.bucket("job")
        write_images(tmp_path / "pictures", range(10), damaged)
        for picture in sorted((tmp_path / "pictures").iterdir()):
            s3.client.upload_file(str(picture), bucket.removeprefix("s3://"), f"pictures/{picture.name}")
        said = {
            "task": "image-classification",
            "input": f"{bucket}/pictures",
            "output": f"{bucket}/labels",
            "checkpoint": str(checkpoint),
        } | options
        path = tmp_path / "nightly.yaml"
        path.write_text("".join(f"{name}: {value}\n" for name, value in said.items()))
        return str(path), f"{bucket}/labels"

    return write


def rows(output: str) -> int:
    store = Store(output)
    return sum(pq.read_metadata(store.open(key)).num_rows for key in store.keys("predictions/"))


def test_a_submitted_job_runs_there_and_its_log_and_end_come_back(head: Head, job: Callable[..., Any]) -> None:
    path, output = job()
    # Another cluster in the environment does not go before the address that was typed.
    ended = head.tell(
        "perceiver", "submit", path, "--address", head.address, RAY_API_SERVER_ADDRESS="http://127.0.0.1:9"
    )
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("submitted image-classification-")
    assert any("done: 10 rows and 0 quarantined" in line for line in lines)
    assert not ended.stderr
    assert rows(output) == 10
    known = head.get(f"/api/jobs/{lines[0].split()[1]}")
    assert known["entrypoint"] == "python -m jobs.run --job job.yaml"


@pytest.mark.slow
def test_too_much_quarantined_there_exits_3_here(head: Head, job: Callable[..., Any]) -> None:
    path, output = job(damaged=(3, 4, 5))
    ended = head.tell("perceiver", "submit", path, "--address", head.address)
    assert ended.returncode == 3, ended.stderr
    assert "3 of 10 units are quarantined" in ended.stdout
    assert rows(output) <= 7


def test_what_only_the_cluster_can_find_wrong_exits_2(head: Head, job: Callable[..., Any], tmp_path: Path) -> None:
    path, output = job(checkpoint=tmp_path / "no-model")
    ended = head.tell("perceiver", "submit", path, "--address", head.address)
    assert ended.returncode == 2
    assert "no-model" in ended.stdout
    assert rows(output) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "image-clasification"}, "did you mean image-classification?"),
        ({"replica": 2}, "did you mean replicas?"),
        ({"output": "labels"}, "output (labels) is relative to a folder of this machine"),
        ({"checkpoint": "./model"}, "checkpoint (./model) is relative"),
        ({"input": "s3://key:canary-secret@bucket/x"}, "credentials come from the environment"),
    ],
)
def test_what_is_wrong_in_the_file_is_found_before_anything_is_sent(
    head: Head, job: Callable[..., Any], options: dict[str, Any], words: str
) -> None:
    path, _ = job(**options)
    before = len(head.get("/api/jobs/"))
    ended = head.tell("perceiver", "submit", path, "--address", head.address)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "canary" not in ended.stderr
    assert len(head.get("/api/jobs/")) == before


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://127.0.0.1:9", "no Ray dashboard answers at http://127.0.0.1:9"),
        ("http://user:canary-secret@127.0.0.1:9", "credentials come from the environment"),
        ("http://127.0.0.1:9/?token=canary-secret", "credentials come from the environment"),
        ("ray://127.0.0.1:10001", "is not that of a dashboard, as in http://HEAD:8265"),
        ("127.0.0.1:8265", "is not that of a dashboard, as in http://HEAD:8265"),
    ],
)
def test_a_wrong_address_exits_2_in_words(head: Head, job: Callable[..., Any], address: str, words: str) -> None:
    ended = head.tell("perceiver", "submit", job()[0], "--address", address)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "canary" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_the_token_nothing_runs(head: Head, job: Callable[..., Any]) -> None:
    ended = head.tell("perceiver", "submit", job()[0], "--address", head.address, RAY_AUTH_TOKEN="another")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def test_ctrl_c_leaves_the_job_running_and_says_how_to_follow_it(head: Head, job: Callable[..., Any]) -> None:
    path, output = job()
    command = [str(BIN / "perceiver"), "submit", path, "--address", head.address, "--submission-id", "left-alone"]
    with subprocess.Popen(
        command, env=head.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as submitting:
        assert submitting.stdout is not None
        assert submitting.stdout.readline() == "submitted left-alone\n"
        time.sleep(1)
        submitting.send_signal(signal.SIGINT)
        _, told = submitting.communicate(timeout=30)
    assert submitting.returncode == 1
    assert f"ray job logs left-alone --follow --address {head.address}" in told
    assert f"ray job stop left-alone --address {head.address}" in told
    assert head.ended("left-alone")["status"] == "SUCCEEDED"
    assert rows(output) == 10
    followed = head.tell("ray", "job", "logs", "left-alone", "--follow", "--address", head.address)
    assert "done: 10 rows" in followed.stdout + followed.stderr


def test_a_stopped_job_exits_1(head: Head, job: Callable[..., Any]) -> None:
    path, _ = job()
    taken = head.tell("perceiver", "submit", path, "--address", head.address, "--submission-id", "to-stop", "--no-wait")
    assert taken.returncode == 0, taken.stderr
    head.tell("ray", "job", "stop", "to-stop", "--address", head.address)
    code = f"""
from pipeline.runtime.ray_backend.submit import SubmittedJob, follow
ended = follow(SubmittedJob(id="to-stop", address="{head.address}"), lambda piece: None)
print(ended.code, ended.message)
"""
    ended = head.tell("python", "-c", code)
    assert ended.stdout.startswith("1 stopped: "), ended.stderr


def test_an_id_is_taken_once(head: Head, job: Callable[..., Any]) -> None:
    head.tell("ray", "job", "submit", "--no-wait", "--submission-id", "once", "--address", head.address, "--", "true")
    words = ("perceiver", "submit", job()[0], "--address", head.address, "--submission-id")
    again = head.tell(*words, "once")
    assert again.returncode == 2
    assert "once already exists" in again.stderr
    wrong = head.tell(*words, "a/b")
    assert wrong.returncode == 2
    assert "submission_id (a/b) must be" in wrong.stderr


@pytest.mark.slow
def test_a_log_heard_twice_is_said_once(head: Head) -> None:
    head.tell(
        "ray", "job", "submit", "--submission-id", "talks", "--address", head.address, "--", "seq", "5000"
    )  # in pieces
    code = f"""
import asyncio
from pipeline.runtime.ray_backend.submit import JobLog
from ray.job_submission import JobSubmissionClient
client, said = JobSubmissionClient("{head.address}"), []
log = JobLog(write=said.append, printed=100)
for _ in range(2):
    asyncio.run(log.tail(client, "talks"))
assert "".join(said) == client.get_job_logs("talks")[100:], said
assert "4999" in "".join(said)
"""
    ended = head.tell("python", "-c", code)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_ray_s_own_command_submits_it_too(head: Head, job: Callable[..., Any]) -> None:
    path, output = job()
    entrypoint = ("python", "-m", "jobs.run", "--job", path)
    ended = head.tell("ray", "job", "submit", "--address", head.address, "--", *entrypoint)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert rows(output) == 10


def test_no_secret_is_in_what_ray_keeps_of_jobs(head: Head, job: Callable[..., Any]) -> None:
    """Behind all tests above: of jobs that were done, failed, refused and stopped."""
    path, _ = job(checkpoint="/no-model")
    assert head.tell("perceiver", "submit", path, "--address", head.address).returncode == 2
    logs = [path for path in head.folder.rglob("job-driver-*.log") if path.stat().st_size]
    assert logs
    assert found_in(head.folder) == []
