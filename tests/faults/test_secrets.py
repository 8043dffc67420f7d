"""A canary secret in credentials, environment and URIs is in no byte that a run leaves, however the run ends.

Here the runs that end before any work, in this process. Those that have a cluster: `test_secrets_of_whole_runs.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.runtime import UsageError
from pipeline.runtime.ray_backend.auth import require_token
from pipeline.storage import retry
from tests.faults.canary_secrets import CREDENTIALS, canary, found_in, profile
from tests.faults.gateway import Gateway, refusal

TASK = "image-classification"
SECRET_URI = f"s3://user:{canary('typed')}@bucket/in"


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
        "--device (password=*** must be auto, cpu or cuda",
    ),
    "no such choice of a verb without job files": (
        ("bench", "--device", f"password={canary('typed')}"),
        "'password=***' is not one of",
    ),
    "no such verb": (("export", SECRET_URI), "No such command 'export'"),
    "a secret in place of a verb": ((SECRET_URI,), "No such command 's3://***@bucket/in'"),
    "no OUTPUT of a run": (("status", f"s3://bucket/x?sig={canary('typed')}"), "s3://bucket/x?***"),
}


@pytest.mark.parametrize("typed", TYPED)
def test_what_is_typed_wrongly_is_repeated_without_its_secret(
    told: Callable[..., str], image_folder: Path, checkpoint: Path, tmp_path: Path, typed: str
) -> None:
    words, said = TYPED[typed]
    places = {"IN": image_folder, "OUT": tmp_path / "out", "MODEL": checkpoint}
    assert said in told(2, *(places.get(word, word) for word in words), HF_HUB_OFFLINE="1")


def test_a_wrong_job_file_is_shown_without_its_secrets(told: Callable[..., str], secrets_folder: Path) -> None:
    job = secrets_folder / "job.yaml"
    job.write_text(f"task: {TASK}\ninput: {SECRET_URI}\noutput: out\ncheckpoint: x\npassword: {canary('typed')}\n")
    assert "password is not a valid option" in told(2, "run", "--job", job)
    job.write_text(f"task: {TASK}\ninput: /in\noutput: /out\ncheckpoint: {SECRET_URI}\n")
    assert "s3://***@bucket/in" in told(2, "submit", job, "--address", "http://127.0.0.1:9")
    job.write_text(f"task: {TASK}\ninput: [{SECRET_URI}\n")
    assert "line 3, column 1" in told(2, "run", "--job", job)
    job.write_text(f"task: token={canary('typed')}\ninput: in\noutput: out\ncheckpoint: x\n")
    assert "task 'token=***' must be one of" in told(2, "submit", job, "--address", "http://127.0.0.1:9")


def test_a_cluster_s_address_is_shown_without_its_password(
    told: Callable[..., str], secrets_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)  # which Ray sets where it was started before
    job = secrets_folder / "job.yaml"
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
    told, s3, checkpoint: Path, tmp_path: Path, secrets_folder: Path, monkeypatch, refused: str, from_file: bool
) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0)
    refuse, code = REFUSED[refused], 1 if "down" in refused else 2
    with Gateway(s3.endpoint, refuse) as gateway:
        words = ("run", TASK, "s3://bucket/*.png", tmp_path / "out", "--checkpoint", checkpoint)
        credentials = profile(secrets_folder) if from_file else CREDENTIALS
        said = told(code, *words, credentials=credentials, **gateway.variables)
    assert re.search(r": \w+ .* \*\*\* \(\w+\)", said), "the store's words are there, without what they repeat"
    assert "Traceback" not in said
    assert gateway.users == {gateway.user}


def test_a_proxy_that_is_not_there_is_told_without_its_password(
    told, s3, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0)
    words = ("run", TASK, "s3://bucket/in", tmp_path / "out", "--checkpoint", checkpoint)
    assert "s3://bucket/in" in told(1, *words, HTTP_PROXY=f"http://user:{canary('proxy')}@127.0.0.1:9")
