"""Canary secrets in credentials, environment and URIs never appear in output or files, however a run ends.

These runs end before any work, in this process. Runs with a cluster are in `test_secrets_of_whole_runs.py`.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from jobs.cli import app
from pipeline import AccessError, Predictor, open_run, plan, run
from pipeline.perceiver import CheckpointError, PerceiverIO
from pipeline.runtime.errors import RunFailed, UsageError
from pipeline.runtime.options import RunOptions
from pipeline.runtime.ray_backend.auth import require_token
from pipeline.runtime.ray_backend.cluster_address import find_address
from pipeline.storage import retry
from tests.faults.canary_secrets import CREDENTIALS, canary, found_in, profile
from tests.faults.password_proxy import PasswordProxy, refusal

TASK = "image-classification"
SECRET_URI = f"s3://user:{canary('typed')}@bucket/in"


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """`run_cli(code, *arguments, **env)`: run `perceiver` with secrets in the environment and return what it prints.

    Asserts the exit code, and that no secret is printed or written below the test's folder.
    """

    def run(code: int, *arguments: str | Path, credentials: Mapping[str, str] = CREDENTIALS, **env: str) -> str:
        for name in CREDENTIALS:
            monkeypatch.delenv(name, raising=False)
        for name, value in {**credentials, **env}.items():
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(app, [str(word) for word in arguments])
        assert result.exit_code == code, result.output
        assert found_in(tmp_path, printed=result.output) == [], result.output
        return " ".join(result.output.split())

    return run


TYPED: dict[str, tuple[tuple[str, ...], str]] = {
    "INPUT with a password": (("run", TASK, SECRET_URI, "OUT", "--checkpoint", "MODEL"), "s3://***@bucket/in"),
    "INPUT with a query": (
        ("run", TASK, f"https://host/in.png?sig={canary('typed')}", "OUT", "--checkpoint", "MODEL"),
        "must not contain a user, password or query string",
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
    "no such verb": (("import", SECRET_URI), "there is no verb 'import'"),
    "a secret in place of a verb": ((SECRET_URI,), "there is no verb 's3://***@bucket/in'"),
    "no OUTPUT of a run": (("status", f"s3://bucket/x?sig={canary('typed')}"), "s3://bucket/x?***"),
}


@pytest.mark.parametrize("case", TYPED)
def test_wrong_arguments_are_repeated_without_their_secrets(
    run_cli: Callable[..., str],
    image_folder: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # which is read at its import
    arguments, printed = TYPED[case]
    places = {"IN": image_folder, "OUT": tmp_path / "out", "MODEL": checkpoint}
    assert printed in run_cli(2, *(places.get(word, word) for word in arguments))


def test_wrong_job_file_is_reported_without_its_secrets(run_cli: Callable[..., str], secrets_folder: Path) -> None:
    job = secrets_folder / "job.yaml"
    job.write_text(f"task: {TASK}\ninput: {SECRET_URI}\noutput: out\ncheckpoint: x\npassword: {canary('typed')}\n")
    assert "password is not a valid option" in run_cli(2, "run", "--job", job)
    job.write_text(f"task: {TASK}\ninput: /in\noutput: /out\ncheckpoint: {SECRET_URI}\n")
    assert "s3://***@bucket/in" in run_cli(2, "submit", job, "--address", "http://127.0.0.1:9")
    job.write_text(f"task: {TASK}\ninput: [{SECRET_URI}\n")
    assert "line 3, column 1" in run_cli(2, "run", "--job", job)
    job.write_text(f"task: token={canary('typed')}\ninput: in\noutput: out\ncheckpoint: x\n")
    assert "task 'token=***' must be one of" in run_cli(2, "submit", job, "--address", "http://127.0.0.1:9")


def test_cluster_address_is_reported_without_its_password(
    run_cli: Callable[..., str], secrets_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)  # which Ray sets where it was started before
    job = secrets_folder / "job.yaml"
    job.write_text(f"task: {TASK}\ninput: /in\noutput: /out\ncheckpoint: /x\n")
    for address in (f"http://user:{canary('typed')}@host:8265", f"ray://token={canary('typed')}@host:10001"):
        run_cli(2, "submit", job, "--address", address)
    with pytest.raises(UsageError) as refused:
        require_token(f"ray://user:{canary('typed')}@host:10001")
    assert found_in(printed=str(refused.value)) == []


WITH_SECRETS = [
    SECRET_URI,
    f"https://user:{canary('typed')}@127.0.0.1:9/in",
    f"https://{canary('typed')}@127.0.0.1:9/in",
    f"https://127.0.0.1:9/mirror/https:/user:{canary('typed')}@host/in",
    f"//user:{canary('typed')}@host/in",
    f"zip::https://user:{canary('typed')}@host/in",
]
PYTHON: dict[str, Callable[[str, dict[str, str]], object]] = {
    "INPUT": lambda uri, places: run(task=TASK, **places | {"input": uri}),
    "OUTPUT": lambda uri, places: run(task=TASK, **places | {"output": uri}),
    "checkpoint": lambda uri, places: plan(task=TASK, **places | {"checkpoint": uri}),
    "task": lambda uri, places: run(task=uri, **places),
    "a number": lambda uri, places: run(task=TASK, **places, batch_size=uri),
    "a name": lambda uri, places: run(task=TASK, **places, keep_columns=[uri]),
    "an option": lambda uri, places: run(task=TASK, **places, **{uri: 1}),
    "address": lambda uri, _: find_address(uri),
    "results": lambda uri, _: open_run(uri),
    "the checkpoint of a Predictor": lambda uri, _: Predictor(TASK, checkpoint=uri),
    "an option of a Predictor": lambda uri, _: Predictor(TASK, checkpoint="demo", top_k=uri),
    "a model": lambda uri, _: PerceiverIO.from_pretrained(uri),
    "options": lambda uri, _: RunOptions(task=TASK, output="out", checkpoint="x", batch_size=uri, limit=uri),
}


@pytest.mark.parametrize("uri", WITH_SECRETS)
@pytest.mark.parametrize("place", PYTHON)
def test_exceptions_in_python_hold_no_secret(image_folder: Path, tmp_path: Path, place: str, uri: str) -> None:
    places = {"input": str(image_folder), "output": str(tmp_path / "out"), "checkpoint": "demo"}
    with pytest.raises((AccessError, UsageError, CheckpointError, ValidationError)) as caught:
        PYTHON[place](uri, places)
    error: BaseException | None = caught.value
    while error is not None:
        values = {"text": str(error), "name": repr(error), "arguments": repr(error.args), "state": repr(vars(error))}
        assert found_in(**values) == []
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert found_in(printed="".join(traceback.format_exception(caught.value))) == []
    assert found_in(tmp_path) == []


def test_a_failed_run_holds_no_secret() -> None:
    assert found_in(text=str(RunFailed(f"https://user:{canary('message')}@host failed"))) == []


REFUSED = {
    "a token that expired": refusal(400, "ExpiredToken", "The provided token has expired:"),
    "a signature that does not match": refusal(403, "SignatureDoesNotMatch", "You signed"),
    "an unknown key": refusal(403, "InvalidAccessKeyId", "The AWS Access Key Id does not exist, of"),
    "a bucket that is not there": refusal(404, "NoSuchBucket", "No bucket for"),
    "a store that is down for ever": refusal(503, "SlowDown", "Please slow down"),
}


@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize("refused", REFUSED)
def test_storage_errors_are_reported_without_secrets(
    run_cli, s3, checkpoint: Path, tmp_path: Path, secrets_folder: Path, monkeypatch, refused: str, from_file: bool
) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0)
    refuse, code = REFUSED[refused], 1 if "down" in refused else 2
    with PasswordProxy(s3.endpoint, refuse) as password_proxy:
        arguments = ("run", TASK, "s3://bucket/*.png", tmp_path / "out", "--checkpoint", checkpoint)
        credentials = profile(secrets_folder) if from_file else CREDENTIALS
        printed = run_cli(code, *arguments, credentials=credentials, **password_proxy.variables)
    assert re.search(r": \w+ .* \*\*\* \(\w+\)", printed), (
        "the store's message is there, without the secrets that it repeats"
    )
    assert "Traceback" not in printed
    assert password_proxy.users == {password_proxy.user}


def test_unreachable_proxy_is_reported_without_its_password(
    run_cli, s3, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0)
    arguments = ("run", TASK, "s3://bucket/in", tmp_path / "out", "--checkpoint", checkpoint)
    assert "s3://bucket/in" in run_cli(1, *arguments, HTTP_PROXY=f"http://user:{canary('proxy')}@127.0.0.1:9")
