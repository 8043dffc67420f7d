"""Faults in tables that end a run before any work, naming the file: columns, ids, access. Repaired, it continues."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from typer.testing import CliRunner

from jobs.cli import app
from pipeline.reference.published_configs import SEQUENCE
from tests.faults.conftest import Outcome
from tests.runtime.test_every_task import parquet, saved_dataset

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


def test_mismatching_second_dataset_is_refused_before_any_work(tmp_path: Path, checkpoints, backend: None) -> None:
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
    assert {name: row["n"] for name, row in found.rows.items()} == {"1": 1, "2": 2, "3": 3, "4": 4}
