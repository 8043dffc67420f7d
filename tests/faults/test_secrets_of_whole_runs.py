"""Canary secrets in credentials and environment never appear in anything a run leaves, in success and in failure.

Checked are OUTPUT, both streams of the command, the home folder, and the files of Ray's session: each run starts its
own cluster with detailed logs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.faults.canary_secrets import CREDENTIALS, canary, found_in, profile
from tests.faults.killed_runs import SECONDS, Points, wait_for
from tests.faults.password_proxy import PasswordProxy, refusal
from tests.runtime.test_every_task import photograph, png

TASK = "image-classification"


@dataclass(kw_only=True)
class Command:
    """`perceiver run` in its own process, with secrets in its environment.

    `folder` is everything it may write to, except Ray's session: the path of a socket has at most 107 bytes, so that
    has a folder with a short name.
    """

    folder: Path
    session: Path
    points: Points
    arguments: list[str]
    env: dict[str, str]

    def start(self, *more: str, **env: str) -> subprocess.Popen[str]:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        command = [sys.executable, "-m", "jobs.run", *self.arguments, "--address", "local", *more]
        return subprocess.Popen(command, env=self.env | self.points.environment | env, **streams)

    def ended(self, started: subprocess.Popen[str], code: int) -> str:
        """Wait for the end, assert the exit code and that no secret is anywhere, and return what was printed."""
        printed, _ = started.communicate(timeout=SECONDS)
        assert started.returncode == code, printed
        logs = [path for path in self.session.rglob("*.log") if path.stat().st_size]
        assert len(logs) > 3, "Ray's logs are there to be searched"
        assert found_in(self.folder, self.session, printed=printed) == []
        return " ".join(printed.split())

    def run(self, code: int, *more: str, **env: str) -> str:
        """Run to the end; see `ended`."""
        return self.ended(self.start(*more, **env), code)


@pytest.fixture
def command(s3, checkpoint: Path, tmp_path: Path, secrets_folder: Path) -> Iterator[Command]:
    """A run over good images and tables whose damaged rows cause messages with secrets in them."""
    put_inputs(secrets_folder / "in")
    (tmp_path / "home").mkdir()
    session = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    env = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}  # Ray sets it
    env |= CREDENTIALS | {"HOME": str(tmp_path / "home"), "RAY_TMPDIR": str(session)}
    env |= {"RAY_BACKEND_LOG_LEVEL": "info", "OMP_NUM_THREADS": "1"}
    arguments = [TASK, str(secrets_folder / "in"), str(tmp_path / "out"), "--checkpoint", str(checkpoint)]
    arguments += ["--max-quarantine", "1", "--shard-size", "2"]
    points = Points(secrets_folder / "points")
    yield Command(folder=tmp_path, session=session, points=points, arguments=arguments, env=env)
    points.clear()
    shutil.rmtree(session, ignore_errors=True)


def put_inputs(folder: Path) -> None:
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.png").write_bytes(png(photograph(number)))
    link = tarfile.TarInfo("0.png")
    link.type, link.linkname = tarfile.LNKTYPE, f"https://user:{canary('link')}@host/?sig={canary('link')}"
    with tarfile.open(folder / "a.tar", "w") as archive:
        archive.addfile(link)
    paths = ["0.png", f"https://user:{canary('path')}@host/a.png", f"https://host/a.png?token={canary('path')}"]
    records = [{"image": path} for path in paths] + [{CREDENTIALS["HF_TOKEN"]: 1, "password": canary("record")}]
    (folder / "b.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def messages(folder: Path) -> list[str]:
    tables = [pq.read_table(path) for path in sorted(folder.glob("out/quarantine/*.parquet"))]
    return [row["message"] for table in tables for row in table.to_pylist()]


@pytest.mark.slow
def test_a_run_leaves_no_secret(command: Command, s3, secrets_folder: Path) -> None:
    """On S3, with credentials in a file, through a proxy with a password."""
    bucket = s3.bucket("secrets").removeprefix("s3://")
    for path in (secrets_folder / "in").iterdir():
        s3.client.upload_file(str(path), bucket, f"in/{path.name}")
    command.arguments[1:3] = [f"s3://{bucket}/in", f"s3://{bucket}/out"]
    for name in CREDENTIALS:
        command.env.pop(name) if name.startswith("AWS_") else None
    with PasswordProxy(s3.endpoint) as password_proxy:
        printed = command.run(0, **profile(secrets_folder), **password_proxy.variables)
        assert password_proxy.users == {password_proxy.user}
    assert "done: 7 rows and 3 quarantined, of 10 units, 2 left out" in printed
    for found in s3.client.list_objects_v2(Bucket=bucket, Prefix="out/")["Contents"]:
        path = command.folder / found["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.client.download_file(bucket, found["Key"], str(path))
    assert len(messages(command.folder)) == 3
    assert all("***" in message for message in messages(command.folder))
    assert found_in(command.folder) == []


@pytest.mark.slow
def test_a_run_that_is_refused_in_the_middle_leaves_no_secret(command: Command, s3, secrets_folder: Path) -> None:
    bucket = s3.bucket("refused").removeprefix("s3://")
    for path in (secrets_folder / "in").iterdir():
        s3.client.upload_file(str(path), bucket, f"in/{path.name}")
    command.arguments[1] = f"s3://{bucket}/in"
    refuse = refusal(403, "InvalidAccessKeyId", "You are not allowed to read with")
    with PasswordProxy(
        s3.endpoint, lambda request: refuse(request) if request.path.endswith("5.png") else None
    ) as password_proxy:
        printed = command.run(1, **password_proxy.variables)
    assert "You are not allowed to read with *** (InvalidAccessKeyId)" in printed
    assert "the same command resumes the run" in printed


@pytest.mark.slow
def test_a_run_with_another_fingerprint_leaves_no_secret(command: Command) -> None:
    command.run(0)
    assert "top_k was 5, this run has 1" in command.run(2, "--top-k", "1")


@pytest.mark.slow
def test_a_run_with_a_foreign_cluster_s_address_leaves_no_secret(command: Command) -> None:
    ended = command.start("--address", f"ray://user:{canary('address')}@host:10001")
    printed, _ = ended.communicate(timeout=SECONDS)
    assert (ended.returncode, found_in(command.folder, printed=printed)) == (2, [])
    assert "address (***@host:10001) must not contain a user or password" in printed


@pytest.mark.slow
@pytest.mark.parametrize("point", ["load.begin", "predict.begin", "write.begin"])
def test_a_run_whose_workers_are_killed_leaves_no_secret(command: Command, point: str) -> None:
    command.points.arm(point)
    printed = command.run(0)
    assert command.points.taken(point)
    assert "done: 7 rows and 3 quarantined, of 10 units, 2 left out" in printed


@pytest.mark.slow
def test_a_run_that_is_stopped_leaves_no_secret(command: Command) -> None:
    command.points.arm("load.begin", action="stop")
    started = command.start()
    wait_for(lambda: bool(command.points.taken("load.begin")), started)
    started.send_signal(signal.SIGTERM)
    assert "stopped by SIGTERM" in command.ended(started, 1)


@pytest.mark.slow
def test_a_stalled_run_leaves_no_secret(command: Command) -> None:
    command.points.arm("load.begin", action="stop")
    assert "no stage produced output" in command.run(1, "--stall-timeout", "10")


@pytest.mark.slow
def test_a_run_whose_disk_is_full_leaves_no_secret(command: Command) -> None:
    (command.folder / "out").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(command.folder / "out")]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can make a disk that is full")
    try:
        printed = command.run(1, "--shard-size", "1")
    finally:
        subprocess.run(["umount", str(command.folder / "out")], check=True)
    assert "no space when writing" in printed
