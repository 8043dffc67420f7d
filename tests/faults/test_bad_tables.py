"""Faults in tables that end a run before any work, naming the file: columns, ids, access. Repaired, it continues."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.reference.published_configs import SEQUENCE
from pipeline.storage import Store
from tests.faults.conftest import Outcome
from tests.runtime.test_every_task import parquet, saved_dataset
from tests.sources.test_webdataset_source import tar

Run = Callable[..., Outcome]

GOOD = parquet({"text": ["one", "two"], "n": [1, 2]})


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    for key, data in files.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)


def run_command(folder: Path, checkpoint: Path, *flags: str, output: str | Path = "") -> tuple[int, str]:
    """Run the command; return its exit code and its output, in which the folder of INPUT is called IN."""
    places = [str(folder), str(output or folder.parent / "out")]
    given = ["run", "text-classification", *places, "--checkpoint", str(checkpoint), *flags]
    result = CliRunner().invoke(app, given)
    return result.exit_code, " ".join(result.output.split()).replace(str(folder), "IN")


def dataset(columns: Mapping[str, list], types: Mapping[str, str], folder: Path) -> dict[str, bytes]:
    import datasets

    features = datasets.Features({name: datasets.Value(kind) for name, kind in types.items()})
    return saved_dataset(columns, features, folder)


SECOND: dict[str, tuple[Mapping[str, bytes], tuple[str, ...], str]] = {
    "a column that a Parquet lacks": (
        {"b.parquet": parquet({"words": ["three"], "n": [3]})},
        (),
        "IN/b.parquet: column 'text' not found; available columns: words, n",
    ),
    "a column of a Parquet of another type": (
        {"b.parquet": parquet({"text": [3], "n": [3]})},
        (),
        "IN/b.parquet: column 'text' must hold text, got int64",
    ),
    "a kept column of another type": (
        {"b.parquet": parquet({"text": ["three"], "n": ["3"]})},
        ("--keep-columns", "n"),
        "IN/b.parquet: column 'n' has the type string, in the first file int64",
    ),
    "a kept column that a Parquet lacks": (
        {"b.parquet": parquet({"text": ["three"]})},
        ("--keep-columns", "n"),
        "IN/b.parquet: column 'n' not found; available columns: text",
    ),
    "an id column that a Parquet lacks": (
        {"b.parquet": parquet({"text": ["three"]})},
        ("--id-column", "n"),
        "IN/b.parquet: column 'n' not found; available columns: text",
    ),
    "an id column that holds no ids": (
        {"b.parquet": parquet({"text": ["three"], "n": [[3]]})},
        ("--id-column", "n"),
        "IN/b.parquet: column 'n' must hold ids, got list",
    ),
    "ids that are there twice": (
        {"b.parquet": parquet({"text": ["three", "four"], "n": [3, 2]})},
        ("--id-column", "n"),
        "IN: the id column gives one id to several units: '2' in a.parquet and b.parquet",
    ),
    "ids that are there twice in tables of two kinds": (
        {"b.csv": b"n,text\n3,three\n1,four\n"},
        ("--id-column", "n"),
        "IN: the id column gives one id to several units: '1' in a.parquet and b.csv",
    ),
    "a column that a CSV lacks": (
        {"b.csv": b"n,words\n3,three\n"},
        (),
        "IN/b.csv: column 'text' not found; available columns: n, words",
    ),
    "a page in place of a CSV": (
        {"b.csv": b"<html>moved</html>\n"},
        (),
        "IN/b.csv: column 'text' not found; available columns: <html>",
    ),
    "a column that a CSV has twice": ({"b.csv": b"text,text\na,b\n"}, (), "IN/b.csv: 2 columns are named 'text'"),
    "a column that records lack": ({"b.jsonl": b'{"n": 3}\n{"n": 4}\n'}, (), "IN/b.jsonl: column 'text' not found"),
    "a column of records of another type": (
        {"b.jsonl": b'{"text": 3}\n'},
        (),
        "IN/b.jsonl: column 'text' must hold text, got int",
    ),
    "a column that samples lack": (
        {"b.tar": tar([("0.cls", b"1"), ("1.cls", b"2")])},
        (),
        "IN/b.tar: column 'txt or text' not found; available columns: cls",
    ),
    "samples that are there twice": (
        {"b.tar": tar([("0.txt", b"a"), ("1.txt", b"b"), ("0.txt", b"c")])},
        (),
        "IN/b.tar: '0' exists twice, at byte 0 and at byte 2048",
    ),
}


@pytest.mark.parametrize("fault", SECOND)
def test_mismatching_second_file_is_refused_before_any_work(
    tmp_path: Path, checkpoints, cluster: None, fault: str
) -> None:
    files, flags, expected = SECOND[fault]
    put(tmp_path / "in", {"a.parquet": GOOD, **files})
    code, output_text = run_command(tmp_path / "in", checkpoints(SEQUENCE), *flags)
    assert (code, expected in output_text) == (2, True), output_text
    assert not list(Store(str(tmp_path / "out")).keys("predictions/"))


def test_mismatching_second_dataset_is_refused_before_any_work(tmp_path: Path, checkpoints, cluster: None) -> None:
    for name, columns, types, expected in (
        ("lacks", {"words": ["a"]}, {"words": "string"}, "column 'text' not found; available columns: words"),
        ("other", {"text": [1]}, {"text": "int64"}, "column 'text' must hold text, got int64"),
    ):
        files = dataset(columns, types, tmp_path / name / "saved")
        put(tmp_path / name / "in", {"a.parquet": GOOD, **files})
        code, output_text = run_command(tmp_path / name / "in", checkpoints(SEQUENCE))
        (key,) = (key for key in files if key.endswith(".arrow"))
        assert (code, f"IN/{key}: {expected}" in output_text) == (2, True), output_text


def test_same_command_continues_once_the_file_is_repaired(run: Run, checkpoints, tmp_path: Path) -> None:
    folder, model = tmp_path / "in", checkpoints(SEQUENCE)
    put(folder, {"a.parquet": GOOD, "b.parquet": parquet({"text": ["three"], "n": ["3"]})})
    flags = {"keep_columns": "n", "id_column": "n"}
    code, output_text = run_command(folder, model, "--keep-columns", "n", "--id-column", "n")
    assert (code, "IN/b.parquet: column 'n' has the type string" in output_text) == (2, True), output_text
    put(folder, {"b.parquet": parquet({"text": ["three", None], "n": [3, 4]})})
    found = run("text-classification", model, folder, **flags)
    assert {name: row["n"] for name, row in found.rows.items()} == {"1": 1, "2": 2, "3": 3}
    assert {name: unit["message"] for name, unit in found.quarantined.items()} == {
        "4": "column 'text' must hold text, got null"
    }


def test_input_without_readable_files_is_refused(tmp_path: Path, checkpoints, cluster: None) -> None:
    put(tmp_path / "in", {"a.doc": b"text", ".hidden.txt": b"text"})
    code, output_text = run_command(tmp_path / "in", checkpoints(SEQUENCE))
    assert code == 2
    assert "IN: no " in output_text
    assert "1, unknown kind: a.doc" in output_text
    assert "1, hidden: .hidden.txt" in output_text
    code, output_text = run_command(tmp_path / "in" / "*.txt", checkpoints(SEQUENCE), output=tmp_path / "out")
    assert (code, "IN: no text" in output_text, "the name does not exist" in output_text) == (2, True, True), (
        output_text
    )


@pytest.mark.parametrize(
    "uri",
    [
        "s3://key:canary-secret@bucket/in",
        "s3://bucket/in?X-Amz-Signature=canary-secret",
        "https://user:canary-secret@example.com/in.parquet",
        "az://container/in?sig=canary-secret",
    ],
)
@pytest.mark.parametrize("place", ["input", "output", "checkpoint"])
def test_secrets_in_a_uri_are_refused_and_never_shown(tmp_path: Path, checkpoints, uri: str, place: str) -> None:
    put(tmp_path / "in", {"a.txt": b"text"})
    places = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "checkpoint": str(checkpoints(SEQUENCE))}
    places[place] = uri
    given = ["run", "text-classification", places["input"], places["output"], "--checkpoint", places["checkpoint"]]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2, result.output
    assert "a URI must not contain a user, password or query string" in " ".join(result.output.split())
    assert "canary" not in result.output + str(result.exception)
    assert not any(b"canary" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("status", [400, 403])  # S3 answers a HEAD with an expired token by 400
def test_denied_access_is_refused_with_the_uri(
    s3: Any, s3_proxy: Any, tmp_path: Path, checkpoints, cluster: None, status: int
) -> None:
    uri = s3.bucket("denied")
    s3.client.put_object(Bucket=uri.removeprefix("s3://"), Key="in/a.txt", Body=b"text")
    s3_proxy.statuses = [status] * 100
    places = [f"{uri}/in", str(tmp_path / "out"), "--checkpoint", str(checkpoints(SEQUENCE))]
    result = CliRunner().invoke(app, ["run", "text-classification", *places])
    output_text = " ".join(result.output.split())
    assert result.exit_code == 2, output_text
    assert f"no access when looking up {uri}/in" in output_text or f"no access when listing {uri}/in" in output_text, (
        output_text
    )
    assert "canary" not in output_text


def test_checkpoint_without_access_is_refused_with_the_uri(
    s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(tmp_path / "in", {"a.txt": b"text"})
    uri = f"{s3.bucket('denied')}/model"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    places = [str(tmp_path / "in"), str(tmp_path / "out"), "--checkpoint", uri]
    result = CliRunner().invoke(app, ["run", "text-classification", *places])
    output_text = " ".join(result.output.split())
    assert result.exit_code == 2, output_text
    assert (
        f"checkpoint {uri} cannot be read: no access when listing {uri}/: Unable to locate credentials" in output_text
    )
