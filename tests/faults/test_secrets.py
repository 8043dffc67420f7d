"""A canary secret in credentials, environment and URIs is in no byte that a run leaves, however the run ends.

Looked at are OUTPUT, both streams of the command, the home folder, and the files of Ray's session: each run that needs
a cluster starts one of its own. What ends before that is told in this process.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.runtime import UsageError
from pipeline.runtime.tokens import require_token
from pipeline.storage import patience
from tests.faults.canaries import CREDENTIALS, canary, found_in, profile
from tests.faults.kills import SECONDS, Points, wait_for
from tests.faults.proxy import Answer, Connection, Proxy, Request
from tests.runtime.test_every_head import photograph, png

TASK = "image-classification"
SECRET_URI = f"s3://user:{canary('typed')}@bucket/in"


class Gateway(Proxy):
    """A proxy as companies have it, for which clients need a password. refuse: what it answers itself, if anything;
    users: who was let through, by their `Proxy-Authorization`."""

    def __init__(self, upstream: str, refuse: Callable[[Request], Answer | None] = lambda _: None) -> None:
        super().__init__(upstream)
        self.refuse, self.users = refuse, set[str]()
        self.user = "Basic " + base64.b64encode(f"user:{canary('proxy')}".encode()).decode()

    @property
    def variables(self) -> dict[str, str]:
        """Those by which clients find it."""
        return {"HTTP_PROXY": f"http://user:{canary('proxy')}@127.0.0.1:{self.port}"}

    def handle(self, request: Request, connection: Connection) -> None:
        self.users.add(request.headers.pop("proxy-authorization", ""))
        path = request.path.removeprefix(f"http://{self.upstream}")
        plain = Request(method=request.method, path=path, headers=request.headers, body=request.body)
        connection.answer(self.refuse(plain) or self.forward(plain))


def refusal(status: int, code: str, words: str) -> Callable[[Request], Answer | None]:
    """A store's to whoever wants to list or to read, whose words are of the kind that repeats what it was given."""

    def refuse(asked: Request) -> Answer | None:
        given = asked.headers.get("x-amz-security-token")
        body = f"<Error><Code>{code}</Code><Message>{words} {given}</Message></Error>"
        answer = Answer(status=status, headers={"Content-Type": "application/xml"}, body=body.encode())
        return answer if asked.method == "GET" else None

    return refuse


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what a user has secrets in."""
    return tmp_path_factory.mktemp("elsewhere")


# Runs that end before any work.


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """`told(code, *words, **env)`: what `perceiver` says with these secrets in the environment and that exit code, once
    no secret was found in it or below the folder of the test."""

    def tell(code: int, *words: str | Path, credentials: Mapping[str, str] = CREDENTIALS, **env: str) -> str:
        for name in CREDENTIALS:
            monkeypatch.delenv(name, raising=False)
        for name, value in {**credentials, **env}.items():
            monkeypatch.setenv(name, value)
        ended = CliRunner().invoke(app, [str(word) for word in words])
        assert ended.exit_code == code, ended.output
        assert found_in(tmp_path, said=ended.output) == [], ended.output
        return " ".join(ended.output.replace("│", "").split())

    return tell


TYPED: dict[str, tuple[tuple[str, ...], str]] = {
    "INPUT with a password": (("run", TASK, SECRET_URI, "OUT", "--checkpoint", "MODEL"), "s3://***@bucket/in"),
    "INPUT with a query": (
        ("run", TASK, f"https://host/in.png?sig={canary('typed')}", "OUT", "--checkpoint", "MODEL"),
        "must not hold a user, password or query string",
    ),
    "OUTPUT with a password": (("run", TASK, "IN", SECRET_URI, "--checkpoint", "MODEL"), "s3://***@bucket/in"),
    "a checkpoint with a password": (("run", TASK, "IN", "OUT", "--checkpoint", SECRET_URI), "s3://***@bucket/in"),
    "a checkpoint that is not there": (
        ("run", TASK, "IN", "OUT", "--checkpoint", f"/nowhere/token={canary('typed')}"),
        "/nowhere/token=***",
    ),
    "a checkpoint that the hub does not have": (
        ("run", TASK, "IN", "OUT", "--checkpoint", f"org/{CREDENTIALS['HF_TOKEN']}"),
        "org/***",
    ),
    "a job file with a password": (("run", "--job", SECRET_URI), "s3://***@bucket/in"),
    "one argument too many": (("run", TASK, "IN", "OUT", SECRET_URI, "--checkpoint", "x"), "(s3://***@bucket/in)"),
    "no such choice": (
        ("run", TASK, "IN", "OUT", "--checkpoint", "x", "--device", f"password={canary('typed')}"),
        "'password=***' is not one of",
    ),
    "no such verb": (("export", SECRET_URI), "No such command 'export'"),
    "a secret in place of a verb": ((SECRET_URI,), "No such command 's3://***@bucket/in'"),
    "no OUTPUT of a run": (("status", f"s3://bucket/x?sig={canary('typed')}"), "s3://bucket/x?***"),
}


@pytest.mark.parametrize("typed", TYPED)
def test_what_is_typed_wrongly_is_repeated_without_its_secret(
    told: Callable[..., str], pictures: Path, checkpoint: Path, tmp_path: Path, typed: str
) -> None:
    words, said = TYPED[typed]
    places = {"IN": pictures, "OUT": tmp_path / "out", "MODEL": checkpoint}
    assert said in told(2, *(places.get(word, word) for word in words), HF_HUB_OFFLINE="1")


def test_a_wrong_job_file_is_shown_without_its_secrets(told: Callable[..., str], elsewhere: Path) -> None:
    job = elsewhere / "job.yaml"
    job.write_text(f"task: {TASK}\ninput: {SECRET_URI}\noutput: out\ncheckpoint: x\npassword: {canary('typed')}\n")
    assert "password is no option" in told(2, "run", "--job", job)
    job.write_text(f"task: {TASK}\ninput: /in\noutput: /out\ncheckpoint: {SECRET_URI}\n")
    assert "s3://***@bucket/in" in told(2, "submit", job, "--address", "http://127.0.0.1:9")
    job.write_text(f"task: {TASK}\ninput: [{SECRET_URI}\n")
    assert "line 3, column 1" in told(2, "run", "--job", job)
    job.write_text(f"task: token={canary('typed')}\ninput: in\noutput: out\ncheckpoint: x\n")
    assert "task 'token=***' is none of" in told(2, "submit", job, "--address", "http://127.0.0.1:9")


def test_a_cluster_s_address_is_shown_without_its_password(told: Callable[..., str], elsewhere: Path) -> None:
    job = elsewhere / "job.yaml"
    job.write_text(f"task: {TASK}\ninput: /in\noutput: /out\ncheckpoint: /x\n")
    for address in (f"http://user:{canary('typed')}@host:8265", f"ray://token={canary('typed')}@host:10001"):
        told(2, "submit", job, "--address", address)
    with pytest.raises(UsageError) as refused:
        require_token(f"ray://user:{canary('typed')}@host:10001")
    assert found_in(said=str(refused.value)) == []


REFUSED = {
    "a token that expired": refusal(400, "ExpiredToken", "The provided token has expired:"),
    "a signature that does not match": refusal(403, "SignatureDoesNotMatch", "You signed"),
    "a key that nobody knows": refusal(403, "InvalidAccessKeyId", "The AWS Access Key Id does not exist, of"),
    "a bucket that is not there": refusal(404, "NoSuchBucket", "No bucket for"),
    "a store that is down for ever": refusal(503, "SlowDown", "Please slow down"),
}


@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize("refused", REFUSED)
def test_a_store_s_refusal_repeats_no_secret(
    told, s3, checkpoint: Path, tmp_path: Path, elsewhere: Path, monkeypatch, refused: str, from_file: bool
) -> None:
    monkeypatch.setattr(patience, "TRYING", 0)
    refuse, code = REFUSED[refused], 1 if "down" in refused else 2
    with Gateway(s3.endpoint, refuse) as gateway:
        words = ("run", TASK, "s3://bucket/*.png", tmp_path / "out", "--checkpoint", checkpoint)
        credentials = profile(elsewhere) if from_file else CREDENTIALS
        said = told(code, *words, credentials=credentials, **gateway.variables)
    assert re.search(r": \w+ .* \*\*\* \(\w+\)", said), "the store's words are there, without what they repeat"
    assert "Traceback" not in said
    assert gateway.users == {gateway.user}


def test_a_proxy_that_is_not_there_is_told_without_its_password(
    told, s3, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "TRYING", 0)
    words = ("run", TASK, "s3://bucket/in", tmp_path / "out", "--checkpoint", checkpoint)
    assert "s3://bucket/in" in told(1, *words, HTTP_PROXY=f"http://user:{canary('proxy')}@127.0.0.1:9")


# Runs with a cluster of their own.


@dataclass(kw_only=True)
class Command:
    """`perceiver run` in a process of its own, with secrets in its environment. folder: all that it may write to but
    for Ray's session, which has a folder with a short name, for the path of a socket has at most 107 bytes."""

    folder: Path
    session: Path
    points: Points
    words: list[str]
    env: dict[str, str]

    def start(self, *more: str, **env: str) -> subprocess.Popen[str]:
        told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        command = [sys.executable, "-m", "jobs.run", *self.words, "--address", "local", *more]
        return subprocess.Popen(command, env=self.env | self.points.environment | env, **told)

    def ended(self, started: subprocess.Popen[str], code: int) -> str:
        """What it said in all, and ended with that exit code; no secret is in it, or in anything that it left."""
        said, _ = started.communicate(timeout=SECONDS)
        assert started.returncode == code, said
        logs = [path for path in self.session.rglob("*.log") if path.stat().st_size]
        assert len(logs) > 3, "Ray's logs are there to be looked at"
        assert found_in(self.folder, self.session, said=said) == []
        return " ".join(said.split())

    def run(self, code: int, *more: str, **env: str) -> str:
        """To its end."""
        return self.ended(self.start(*more, **env), code)


@pytest.fixture
def command(s3, checkpoint: Path, tmp_path: Path, elsewhere: Path) -> Iterator[Command]:
    """Of two good pictures and a table whose damaged rows make words with secrets in them, which lie elsewhere."""
    put_inputs(elsewhere / "in")
    (tmp_path / "home").mkdir()
    session = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    env = os.environ | CREDENTIALS | {"HOME": str(tmp_path / "home"), "RAY_TMPDIR": str(session)}
    env |= {"RAY_BACKEND_LOG_LEVEL": "info", "OMP_NUM_THREADS": "1"}
    words = [TASK, str(elsewhere / "in"), str(tmp_path / "out"), "--checkpoint", str(checkpoint)]
    words += ["--max-quarantine", "1", "--shard-size", "2"]
    points = Points(elsewhere / "points")
    yield Command(folder=tmp_path, session=session, points=points, words=words, env=env)
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


def test_a_run_leaves_no_secret(command: Command, s3, elsewhere: Path) -> None:
    """On S3, its credentials in a file, by way of a proxy with a password."""
    bucket = s3.bucket("secrets").removeprefix("s3://")
    for path in (elsewhere / "in").iterdir():
        s3.client.upload_file(str(path), bucket, f"in/{path.name}")
    command.words[1:3] = [f"s3://{bucket}/in", f"s3://{bucket}/out"]
    for name in CREDENTIALS:
        command.env.pop(name) if name.startswith("AWS_") else None
    with Gateway(s3.endpoint) as gateway:
        said = command.run(0, **profile(elsewhere), **gateway.variables)
        assert gateway.users == {gateway.user}
    assert "done: 7 rows and 4 quarantined" in said
    for found in s3.client.list_objects_v2(Bucket=bucket, Prefix="out/")["Contents"]:
        path = command.folder / found["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.client.download_file(bucket, found["Key"], str(path))
    assert len(messages(command.folder)) == 4
    assert all("***" in message for message in messages(command.folder))
    assert found_in(command.folder) == []


@pytest.mark.slow
def test_a_run_that_is_refused_in_the_middle_leaves_no_secret(command: Command, s3, elsewhere: Path) -> None:
    bucket = s3.bucket("refused").removeprefix("s3://")
    for path in (elsewhere / "in").iterdir():
        s3.client.upload_file(str(path), bucket, f"in/{path.name}")
    command.words[1] = f"s3://{bucket}/in"
    refuse = refusal(403, "AccessDenied", "You are not allowed to read with")
    with Gateway(s3.endpoint, lambda asked: refuse(asked) if asked.path.endswith("5.png") else None) as gateway:
        said = command.run(1, **gateway.variables)
    assert "You are not allowed to read with *** (AccessDenied)" in said
    assert "the same command resumes the run" in said


@pytest.mark.slow
def test_a_run_that_does_not_fit_leaves_no_secret(command: Command) -> None:
    command.run(0)
    assert "top_k was 5, this run has 1" in command.run(2, "--top-k", "1")


@pytest.mark.slow
def test_a_run_with_a_foreign_cluster_s_address_leaves_no_secret(command: Command) -> None:
    ended = command.start("--address", f"ray://user:{canary('address')}@host:10001")
    said, _ = ended.communicate(timeout=SECONDS)
    assert (ended.returncode, found_in(command.folder, said=said)) == (2, [])
    assert "ray://***@host:10001) is another machine's" in said


@pytest.mark.slow
@pytest.mark.parametrize("point", ["load.begin", "predict.begin", "write.begin"])
def test_a_run_whose_workers_are_killed_leaves_no_secret(command: Command, point: str) -> None:
    command.points.arm(point)
    said = command.run(0)
    assert command.points.taken(point)
    assert "done: 7 rows and 4 quarantined" in said


@pytest.mark.slow
def test_a_run_that_is_stopped_leaves_no_secret(command: Command) -> None:
    command.points.arm("load.begin", action="stop")
    started = command.start()
    wait_for(lambda: bool(command.points.taken("load.begin")), started)
    started.send_signal(signal.SIGTERM)
    assert "stopped by SIGTERM" in command.ended(started, 1)


@pytest.mark.slow
def test_a_run_that_gets_nowhere_leaves_no_secret(command: Command) -> None:
    command.points.arm("load.begin", action="stop")
    assert "no shard came out of any stage" in command.run(1, "--stall-timeout", "10")


@pytest.mark.slow
def test_a_run_whose_disk_is_full_leaves_no_secret(command: Command) -> None:
    (command.folder / "out").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(command.folder / "out")]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can make a disk that is full")
    try:
        said = command.run(1, "--shard-size", "1")
    finally:
        subprocess.run(["umount", str(command.folder / "out")], check=True)
    assert "no room when writing" in said
