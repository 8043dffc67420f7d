"""Jobs on a real Ray head with a dashboard and a token: a submitted job runs there, and its exit code comes back."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.storage import Store
from tests.faults.canary_secrets import CREDENTIALS, found_in

BIN = Path(sys.executable).parent
DEPLOY = Path(__file__).parents[2] / "deploy"
NOWHERE = "http://127.0.0.1:9"  # no dashboard answers there


@dataclass(frozen=True, kw_only=True)
class Head:
    """A Ray head with two CPUs. folder: its own files. env: environment of its processes and of its clients, with
    canaries in place of secrets, the token among them."""

    address: str
    folder: Path
    env: dict[str, str]

    def request(self, path: str, values: Mapping[str, str] | None = None) -> Any:
        """Send a GET, or a POST with values, and return the answer."""
        data = None if values is None else json.dumps(values).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        request.add_header("Authorization", f"Bearer {self.env['RAY_AUTH_TOKEN']}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def ended(self, job: str) -> Any:
        """Wait for the end of a job and return its description."""
        deadline = time.monotonic() + 60
        while (known := self.request(f"/api/jobs/{job}"))["status"] in ("PENDING", "RUNNING"):
            assert time.monotonic() < deadline, known
            time.sleep(0.3)
        return known

    def run(self, *command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment and capture its output, which must not contain a secret."""
        arguments = [str(BIN / command[0]), *map(str, command[1:])]
        ended = subprocess.run(arguments, env=self.env | env, capture_output=True, text=True, timeout=120, check=False)
        assert found_in(out=ended.stdout, err=ended.stderr) == []
        return ended


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses, of those that neither the system nor Ray gives to others meanwhile.

    A head whose agent finds its port taken runs on, and answers each job with "No available agent".
    """
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


@pytest.fixture(scope="module")
def head(s3: Any) -> Iterator[Head]:
    """Start a head whose jobs find the S3 server through its environment."""
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
            head.request("/api/jobs/")
        except (OSError, urllib.error.URLError):
            assert time.monotonic() < deadline
            time.sleep(0.3)
        else:
            return


@pytest.fixture
def job(tmp_path: Path, checkpoint: Path, s3: Any, write_images: Callable[..., None]) -> Callable[..., tuple[str, str]]:
    """Return a function that writes ten images to S3 and a job file for them, and returns its path and its OUTPUT."""

    def write(damaged: tuple[int, ...] = (), **options: Any) -> tuple[str, str]:
        bucket = s3.bucket("job")
        write_images(tmp_path / "images", range(10), damaged)
        for image in sorted((tmp_path / "images").iterdir()):
            s3.client.upload_file(str(image), bucket.removeprefix("s3://"), f"images/{image.name}")
        values = {
            "task": "image-classification",
            "input": f"{bucket}/images",
            "output": f"{bucket}/labels",
            "checkpoint": str(checkpoint),
        } | options
        path = tmp_path / "nightly.yaml"
        path.write_text("".join(f"{name}: {value}\n" for name, value in values.items()))
        return str(path), f"{bucket}/labels"

    return write


def submit(path: str, address: str, *more: str) -> tuple[int, str]:
    """Submit a job file from this process; return the exit code, and what is printed without line breaks."""
    result = CliRunner().invoke(app, ["submit", path, "--address", address, *more])
    return result.exit_code, " ".join(result.output.split())


def rows(output: str) -> int:
    store = Store(output)
    return sum(pq.read_metadata(store.open(key)).num_rows for key in store.keys("predictions/"))


def test_submitted_job_shows_its_log_and_exits_with_its_code(head: Head, job: Callable[..., Any]) -> None:
    path, output = job()
    # The address on the command line takes precedence over a cluster in the environment.
    ended = head.run("perceiver", "submit", path, "--address", head.address, RAY_API_SERVER_ADDRESS=NOWHERE)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("submitted image-classification-")
    assert any("done: 10 rows and 0 quarantined" in line for line in lines)
    assert not ended.stderr
    assert rows(output) == 10
    known = head.request(f"/api/jobs/{lines[0].split()[1]}")
    assert known["entrypoint"] == "python -m jobs.run --job job.yaml"


@pytest.mark.slow
def test_job_with_too_much_quarantined_exits_3(head: Head, job: Callable[..., Any]) -> None:
    path, output = job(damaged=(3, 4, 5))
    ended = head.run("perceiver", "submit", path, "--address", head.address)
    assert ended.returncode == 3, ended.stderr
    assert "3 of 10 units are quarantined" in ended.stdout
    assert rows(output) <= 7


@pytest.mark.slow
def test_mistake_that_only_the_cluster_can_find_exits_2(head: Head, job: Callable[..., Any], tmp_path: Path) -> None:
    path, output = job(checkpoint=tmp_path / "no-model")
    ended = head.run("perceiver", "submit", path, "--address", head.address)
    assert ended.returncode == 2
    assert "no-model" in ended.stdout
    assert rows(output) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "image-clasification"}, "did you mean image-classification?"),
        ({"replica": 2}, "did you mean replicas?"),
        ({"output": "labels"}, "output (labels) is relative to a folder of this machine"),
        ({"checkpoint": "./model"}, "checkpoint (./model) is relative"),
        ({"input": "s3://key:canary-secret@bucket/x"}, "credentials come from the environment"),
    ],
)
def test_mistakes_in_the_file_are_found_before_anything_is_sent(
    job: Callable[..., Any], options: dict[str, Any], message: str
) -> None:
    path, _ = job(**options)
    code, printed = submit(path, NOWHERE)
    assert code == 2
    assert message in printed
    assert "canary" not in printed
    assert "no Ray dashboard answers" not in printed


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (NOWHERE, f"no Ray dashboard answers at {NOWHERE}: Connection refused; start the cluster"),
        ("http://user:canary-secret@127.0.0.1:9", "credentials come from the environment"),
        ("http://127.0.0.1:9/?token=canary-secret", "credentials come from the environment"),
        ("ray://127.0.0.1:10001", "must be the URL of a Ray dashboard, as in http://HEAD:8265"),
        ("127.0.0.1:8265", "must be the URL of a Ray dashboard, as in http://HEAD:8265"),
    ],
)
def test_wrong_address_exits_2(job: Callable[..., Any], address: str, message: str) -> None:
    code, printed = submit(job()[0], address)
    assert code == 2
    assert message in printed
    assert "canary" not in printed
    assert "Traceback" not in printed


def test_dashboard_that_accepts_connections_and_never_answers_exits_2(
    job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.runtime.ray_backend.submit.ANSWER_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        code, printed = submit(job()[0], address)
    assert code == 2
    assert f"no Ray dashboard answers at {address}: timed out; start the cluster or correct the address" in printed


def test_wrong_token_exits_2(head: Head, job: Callable[..., Any]) -> None:
    ended = head.run("perceiver", "submit", job()[0], "--address", head.address, RAY_AUTH_TOKEN="another")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def cron_command(head: Head, path: str, command: list[str], pod: str) -> list[str]:
    """Return a command of the container in deploy/cronjob.yaml, for this head, job file and name of the pod."""
    here = {"http://perceiver-head-svc:8265": head.address, "/etc/perceiver/job.yaml": path, "$(POD_NAME)": pod}
    for there, value in here.items():
        command = [argument.replace(there, value) for argument in command]
    return command


@pytest.mark.slow
def test_command_of_the_cron_job_succeeds_finds_nothing_new_and_is_refused(
    head: Head, job: Callable[..., Any], tmp_path: Path
) -> None:
    _, cron = yaml.safe_load_all((DEPLOY / "cronjob.yaml").read_text())
    (container,) = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    path, output = job()

    def night(pod: str) -> subprocess.CompletedProcess[str]:
        return head.run(*cron_command(head, path, container["command"], pod))

    first = night("night-1")
    assert (first.returncode, rows(output)) == (0, 10), first.stderr
    again = night("night-2")
    assert (again.returncode, rows(output)) == (0, 10), again.stderr
    assert "all shards are done" in again.stdout or "10 rows" in again.stdout
    assert "connecting to Ray" in first.stdout
    assert "connecting to Ray" not in again.stdout
    taken = night("night-2")
    assert taken.returncode == 2
    assert "night-2 already exists" in taken.stderr
    path, _ = job(checkpoint=tmp_path / "no-model")
    refused = night("night-3")
    assert refused.returncode == 2
    assert "no-model" in refused.stdout


@pytest.mark.slow
def test_hook_of_the_cron_job_stops_the_run_and_the_next_night_resumes_it(head: Head, job: Callable[..., Any]) -> None:
    _, cron = yaml.safe_load_all((DEPLOY / "cronjob.yaml").read_text())
    (container,) = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    path, output = job(**{"shard-size": 1})
    command, hook = (
        cron_command(head, path, each, "night-4")
        for each in (container["command"], container["lifecycle"]["preStop"]["exec"]["command"])
    )
    with subprocess.Popen(
        [str(BIN / command[0]), *command[1:]], env=head.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as submitting:
        deadline = time.monotonic() + 300
        while not rows(output):
            assert submitting.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        stopped = subprocess.run(
            hook, env=head.env | {"POD_NAME": "night-4"}, capture_output=True, text=True, check=False
        )
        assert stopped.returncode == 0, stopped.stderr
        printed = submitting.communicate(timeout=60)
    assert submitting.returncode == 1, printed
    resumed = head.run(*cron_command(head, path, container["command"], "night-5"))
    assert (resumed.returncode, rows(output)) == (0, 10), resumed.stderr


@pytest.mark.slow
def test_ctrl_c_leaves_the_job_running_and_shows_how_to_follow_it(head: Head, job: Callable[..., Any]) -> None:
    path, output = job()
    command = [str(BIN / "perceiver"), "submit", path, "--address", head.address, "--submission-id", "left-alone"]
    with subprocess.Popen(
        command, env=head.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as submitting:
        assert submitting.stdout is not None
        assert submitting.stdout.readline() == "submitted left-alone\n"
        time.sleep(1)
        submitting.send_signal(signal.SIGINT)
        _, printed = submitting.communicate(timeout=30)
    assert submitting.returncode == 1
    assert f"ray job logs left-alone --follow --address {head.address}" in printed
    assert f"ray job stop left-alone --address {head.address}" in printed
    assert head.ended("left-alone")["status"] == "SUCCEEDED"
    assert rows(output) == 10
    followed = head.run("ray", "job", "logs", "left-alone", "--follow", "--address", head.address)
    assert "done: 10 rows" in followed.stdout + followed.stderr


@pytest.mark.slow
def test_stopped_job_exits_1(head: Head, job: Callable[..., Any]) -> None:
    path, _ = job()
    taken = head.run("perceiver", "submit", path, "--address", head.address, "--submission-id", "to-stop", "--no-wait")
    assert taken.returncode == 0, taken.stderr
    head.run("ray", "job", "stop", "to-stop", "--address", head.address)
    code = f"""
from pipeline.runtime.ray_backend.submit import SubmittedJob, follow
ended = follow(SubmittedJob(id="to-stop", address="{head.address}"), lambda piece: None)
print(ended.code, ended.message)
"""
    ended = head.run("python", "-c", code)
    assert ended.stdout.startswith("1 stopped: "), ended.stderr


def test_submission_id_can_be_used_once(head: Head, job: Callable[..., Any]) -> None:
    head.request("/api/jobs/", {"entrypoint": "true", "submission_id": "once"})
    again = head.run("perceiver", "submit", job()[0], "--address", head.address, "--submission-id", "once")
    assert again.returncode == 2
    assert "once already exists" in again.stderr


def test_wrong_submission_id_exits_2(job: Callable[..., Any]) -> None:
    code, printed = submit(job()[0], NOWHERE, "--submission-id", "a/b")
    assert code == 2
    assert "submission_id (a/b) must be" in printed


@pytest.mark.slow
def test_log_is_printed_once_even_if_it_is_read_twice(head: Head) -> None:
    head.run(
        "ray", "job", "submit", "--submission-id", "talks", "--address", head.address, "--", "seq", "5000"
    )  # in pieces
    code = f"""
import asyncio
from pipeline.runtime.ray_backend.submit import JobLog
from ray.job_submission import JobSubmissionClient
client, printed = JobSubmissionClient("{head.address}"), []
log = JobLog(write=printed.append, printed=100)
for _ in range(2):
    asyncio.run(log.tail(client, "talks"))
assert "".join(printed) == client.get_job_logs("talks")[100:], printed
assert "4999" in "".join(printed)
"""
    ended = head.run("python", "-c", code)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_ray_job_submit_runs_a_job_file_too(head: Head, job: Callable[..., Any]) -> None:
    path, output = job()
    entrypoint = ("python", "-m", "jobs.run", "--job", path)
    ended = head.run("ray", "job", "submit", "--address", head.address, "--", *entrypoint)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert rows(output) == 10


@pytest.mark.slow
def test_ray_keeps_no_secret_of_a_job(head: Head, job: Callable[..., Any]) -> None:
    """Runs after all tests above, with jobs that succeeded, failed, were refused and stopped."""
    path, _ = job(checkpoint="/no-model")
    assert head.run("perceiver", "submit", path, "--address", head.address).returncode == 2
    logs = [path for path in head.folder.rglob("job-driver-*.log") if path.stat().st_size]
    assert logs
    assert found_in(head.folder) == []
