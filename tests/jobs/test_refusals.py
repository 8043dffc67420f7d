"""Every refusal: exit code 2 before any work, with the cause and what to do, and no trace of it in OUTPUT."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from jobs.cli import app
from pipeline import AccessError, UsageError, run
from pipeline.checkpoints import digest
from pipeline.perceiver import CheckpointError, PerceiverIO
from pipeline.reference.published_configs import FLOW, FOURIER, SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.driver.prepare import prepare_run
from pipeline.runtime.options import RunOptions
from pipeline.sinks.parts import part_key
from tests.jobs.refused_checkpoints import (
    A_TENSOR,
    IMAGE_SETTINGS,
    MODELS,
    TEXT_SETTINGS,
    WEIGHTS,
    Change,
    change_config,
    change_tensors,
    truncate,
)
from tests.jobs.refused_inputs import REFUSALS, png
from tests.situations.situation import in_order

TEXT = "text-classification"
CLASSES = {TEXT: SEQUENCE, "image-classification": FOURIER, "optical-flow": FLOW}


pytestmark = pytest.mark.usefixtures("described_cluster")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`models(task)`: a small checkpoint, made once."""
    made: dict[str, Path] = {}

    def make(task: str) -> Path:
        if task not in made:
            folder = tmp_path_factory.mktemp("models") / task
            made[task] = make_checkpoint(CLASSES[task], small(CLASSES[task]), folder)
        return made[task]

    return make


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with an INPUT `in`."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("one\n")
    (tmp_path / "in/a.png").write_bytes(png())
    return tmp_path


def refuse(words: str, *arguments: str | Path, work: Path) -> str:
    """Check that a command is refused with these words, in which WORK is a folder, and leaves no file in it."""
    before = {path for path in work.rglob("*") if path.is_file()}
    result = CliRunner().invoke(app, ["run", *map(str, arguments), "--trusted-inputs"])
    text = " ".join(result.output.split()).replace(str(work), "WORK")
    assert result.exit_code == 2, text
    assert "Traceback" not in text
    assert re.search(in_order(words), text), text
    assert {path for path in work.rglob("*") if path.is_file()} == before
    return text


@pytest.mark.parametrize("name", REFUSALS)
def test_input_or_output_is_refused(name: str, tmp_path: Path, models) -> None:
    refusal = REFUSALS[name]
    (tmp_path / "in").mkdir()
    for key, data in refusal.files.items():
        (tmp_path / "in" / key).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / key).write_bytes(data)
    for key, target in refusal.links.items():
        (tmp_path / key).symlink_to(target)
    places = [each if "://" in each else f"{tmp_path}/{each}" for each in (refusal.input, refusal.output)]
    checkpoint = models(refusal.task)
    refuse(refusal.words, refusal.task, *places, "--checkpoint", checkpoint, *refusal.options, work=tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_model_is_refused(name: str, work: Path, models) -> None:
    change, words = MODELS[name]
    refuse_checkpoint(TEXT, models(TEXT), change, words, work)
    with pytest.raises(CheckpointError, match=in_order(words.replace("CKPT", f"{work}/model"))):
        PerceiverIO.from_pretrained(f"{work}/model")


def test_weights_of_another_class_are_refused(work: Path, models) -> None:
    words = "CKPT: tensor perceiver. … has the shape"
    refuse_checkpoint("image-classification", models(TEXT), change_config(architectures=[FOURIER]), words, work)
    with pytest.raises(CheckpointError, match=in_order(words.replace("CKPT", f"{work}/model"))):
        PerceiverIO.from_pretrained(f"{work}/model")


@pytest.mark.parametrize("name", TEXT_SETTINGS)
def test_settings_of_a_text_model_are_refused(name: str, work: Path, models) -> None:
    refuse_checkpoint(TEXT, models(TEXT), *TEXT_SETTINGS[name], work)


@pytest.mark.parametrize("name", IMAGE_SETTINGS)
def test_settings_of_an_image_model_are_refused(name: str, work: Path, models) -> None:
    refuse_checkpoint("image-classification", models("image-classification"), *IMAGE_SETTINGS[name], work)


def refuse_checkpoint(task: str, sound: Path, change: Change, words: str, work: Path) -> None:
    """Check that a run with a changed checkpoint is refused with these words, in which CKPT is the checkpoint."""
    shutil.copytree(sound, work / "model")
    change(work / "model")
    words = words.replace("CKPT", "WORK/model")
    refuse(words, task, work / "in", work / "out", "--checkpoint", work / "model", work=work)


SECRET = "a URI must not contain a user, password or query string"
LIKE_URI = "looks like a URI, but does not begin with a scheme and ://"
URIS = {
    "s3://key:canary-secret@bucket/in": SECRET,
    "s3://bucket/in?X-Amz-Signature=canary-secret": SECRET,
    "https://user:canary-secret@example.com/in.parquet": SECRET,
    "az://container/in?sig=canary-secret": SECRET,
    "s3://bucket/mirror/https://user:canary-secret@example.com/in": SECRET,
    "https://example.com/mirror/http:/user:canary-secret@example.com/in": SECRET,
    "//user:canary-secret@example.com/in": SECRET,
    "user:canary-secret@example.com:in": SECRET,
    "hf://datasets/user:canary-secret@example.com/in": SECRET,
    "zip::s3://a/b.zip": "chained URIs are not supported: zip::s3://a/b.zip; unpack or copy the files",
    "zip://in.txt::s3://key:canary-secret@bucket/a.zip": "chained URIs are not supported: zip://***@bucket/a.zip",
    "https://host/a::https://user:canary-secret@host": "chained URIs are not supported",
    "simplecache::photos": "chained URIs are not supported: simplecache::photos; … put ./ before it",
    "s3:/key:canary-secret@bucket/in": f"'s3:/***@bucket/in' {LIKE_URI}",
    "s3:bucket/in": LIKE_URI,
    " s3://bucket/in": LIKE_URI,
    "C:/photos": LIKE_URI,
    "file://photos": "file://photos must be file:// and an absolute path, such as file:///data",
    "zip://photos": "zip:// … use a folder, s3://, gs://",
}


@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize("place", ["input", "output", "checkpoint", "from_latents"])
def test_wrong_uri_is_refused_before_any_request_and_its_secret_never_shown(
    uri: str, place: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    places = {"input": f"{work}/in", "output": f"{work}/out", "checkpoint": f"{work}/model", place: uri}
    typed = [places["input"], places["output"], "--checkpoint", places["checkpoint"]]
    if place == "from_latents":
        places["input"] = ""
        typed = [*typed[1:], "--from-latents", uri]
    assert "canary" not in refuse(URIS[uri], TEXT, *typed, work=work)
    with pytest.raises((AccessError, UsageError)) as caught:
        run(task=TEXT, **places)
    assert "canary" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("status", [400, 403])  # S3 answers a HEAD with an expired token by 400
@pytest.mark.parametrize("place", ["in", "model"])
def test_denied_listing_is_refused(s3, s3_proxy, status: int, place: str, work: Path, models) -> None:
    uri = s3.bucket("denied")
    s3.client.put_object(Bucket=uri.removeprefix("s3://"), Key=f"{place}/a.txt", Body=b"text")
    s3_proxy.statuses = [status] * 100
    source, checkpoint = (f"{uri}/in", models(TEXT)) if place == "in" else (work / "in", f"{uri}/model")
    words = f"no access when … {uri}/{place}"
    assert "canary" not in refuse(words, TEXT, source, work / "out", "--checkpoint", checkpoint, work=work)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("in", "no access when … s3://no-such-bucket/… (NoSuchBucket)"),
        ("out", "s3://no-such-bucket/out … NoSuchBucket"),
        ("model", "checkpoint s3://no-such-bucket/model cannot be read: no access when … NoSuchBucket"),
    ],
)
def test_missing_bucket_is_refused(s3, place: str, words: str, work: Path, models) -> None:
    places = {"in": work / "in", "out": work / "out", "model": models(TEXT)}
    source, output, checkpoint = (places | {place: f"s3://no-such-bucket/{place}"}).values()
    refuse(words, TEXT, source, output, "--checkpoint", checkpoint, work=work)


def test_store_without_credentials_is_refused(s3, work: Path, models, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, out = s3.bucket("denied"), work / "out"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    words = f"no access when … {uri}/… Unable to locate credentials"
    refuse(words, TEXT, f"{uri}/in", out, "--checkpoint", models(TEXT), work=work)
    words = f"checkpoint {uri}/model cannot be read: no access when listing {uri}/model/: Unable to locate credentials"
    refuse(words, TEXT, work / "in", out, "--checkpoint", f"{uri}/model", work=work)


def test_input_of_archived_objects_is_refused(s3, work: Path, models) -> None:
    uri = s3.bucket("frozen")
    bucket = uri.removeprefix("s3://")
    s3.client.put_object(Bucket=bucket, Key="in/a.txt", Body=b"one", StorageClass="GLACIER")
    words = "none of the files can be read (1 tried): … InvalidObjectState"
    refuse(words, TEXT, f"{uri}/in", work / "out", "--checkpoint", models(TEXT), work=work)


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ("WORK/none", "checkpoint WORK/none does not exist: WORK has no 'none'"),
        ("demoo", "checkpoint demoo does not exist (did you mean demo?)"),
        ("demo:fourrier", "must name one of the shipped ones (did you mean fourier?)"),
        ("WORK/in/a.txt", "checkpoint WORK/in/a.txt is a file: give the folder that holds config.json"),
        ("memory://models/a", "memory://models/a: memory:// is in the memory of one process"),
        ("nonsense://models/a", "nonsense:// is not supported; use a folder, s3://"),
        ("a b/c", "checkpoint a b/c is not a local folder; the download from the Hub failed too"),
    ],
)
def test_missing_checkpoint_is_refused(checkpoint: str, words: str, work: Path) -> None:
    checkpoint = checkpoint.replace("WORK", str(work))
    refuse(words, TEXT, work / "in", work / "out", "--checkpoint", checkpoint, work=work)


def test_checkpoint_of_another_task_is_refused(work: Path, models) -> None:
    words = f"WORK/model is a {SEQUENCE}; image-classification needs a Perceiver … Use the task {TEXT}"
    shutil.copytree(models(TEXT), work / "model")
    refuse(words, "image-classification", work / "in", work / "out", "--checkpoint", work / "model", work=work)


def test_wrong_names_and_a_checkpoint_of_another_task_are_refused_before_torch_and_ray_are_loaded(work: Path) -> None:
    for task, folder, checkpoint in (
        ("image-classification", "in", "demo:fill-mask"),
        ("image-classification", "inn", "demo"),
        ("image-clasification", "in", "demo"),
    ):
        lines = f"""
import sys
from jobs.cli import app
try:
    app(["run", {task!r}, "{work}/{folder}", "{work}/out", "--checkpoint", {checkpoint!r}])
except SystemExit as error:
    print(error.code, [name for name in ("torch", "ray", "pyarrow", "transformers") if name in sys.modules])
"""
        ended = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
        assert ended.stdout == "2 []\n", ended.stderr
        assert ended.stderr.startswith("error: ")


def test_checkpoint_that_changed_after_predictions_is_refused_with_both_digests(work: Path, models) -> None:
    shutil.copytree(models(TEXT), work / "model")
    places = {"input": f"{work}/in", "output": f"{work}/out", "checkpoint": f"{work}/model"}
    with prepare_run(RunOptions(task=TEXT, trusted_inputs=True, **places)) as ready:
        ready.output.put(part_key(ready.run.run, 0), b"a part")
    change_tensors(**{A_TENSOR: torch.zeros(32)})(work / "model")
    planned, found = ready.run.fingerprint["checkpoint"], digest(work / "model")
    words = f'checkpoint was "{planned}", this run has "{found}"'
    refuse(words, TEXT, work / "in", work / "out", "--checkpoint", work / "model", work=work)


@pytest.mark.parametrize("change", [change_tensors(**{A_TENSOR: torch.zeros(32)}), truncate(WEIGHTS, 90)])
def test_checkpoint_that_changes_while_it_is_read_is_refused(
    change: Change, work: Path, models, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(models(TEXT), work / "model")
    before, check = digest(work / "model"), PerceiverIO.check_pretrained
    monkeypatch.setattr(PerceiverIO, "check_pretrained", lambda folder: (change(folder), check(folder))[1])
    words = f"checkpoint WORK/model changed while it was read: its digest was {before}, now it is"
    refuse(words, TEXT, work / "in", work / "out", "--checkpoint", work / "model", work=work)
