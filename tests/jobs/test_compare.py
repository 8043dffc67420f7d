"""`perceiver compare`: what it prints and writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from typer.testing import CliRunner

from jobs.cli import app
from tests import example_runs


def perceiver(*arguments: str | Path, code: int = 0) -> str:
    """Return everything that a verb prints, in one line."""
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def second_run(image_run: Path, folder: Path, checkpoint: Path) -> Path:
    """Classify the same images with other options."""
    options = {"top_k": 2, "shard_size": 3, "max_quarantine": 0.5}
    example_runs.run("image-classification", image_run.parent / "in", folder / "second", checkpoint, **options)
    return folder / "second"


def test_verb_prints_a_summary_and_writes_a_table(image_run: Path, checkpoint: Path, tmp_path: Path) -> None:
    second = second_run(image_run, tmp_path, checkpoint)
    printed = perceiver("compare", image_run, second)
    assert "8 units in both runs" in printed
    assert "labels agree for 8 of 8 units: 100.0 %" in printed
    assert "top_k │ 3 │ 2" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["second"]
    for _ in range(2):
        perceiver("compare", image_run, second, tmp_path / "changes")
    assert pq.read_table(tmp_path / "changes/differences.parquet").column_names[:3] == ["id", "runs", "changed"]


def test_wrong_places_exit_2(image_run: Path, flow_run: Path, tmp_path: Path) -> None:
    assert "is not the OUTPUT of a run" in perceiver("compare", image_run, tmp_path, code=2)
    link = tmp_path / "link"
    link.symlink_to(image_run)
    for same in (image_run, f"{image_run}/", link):
        assert "is given twice: name the OUTPUTs of two runs" in perceiver("compare", image_run, same, code=2)
    printed = perceiver("compare", image_run, flow_run, code=2)
    assert f"different tasks: image-classification in {image_run}, optical-flow in {flow_run}" in printed


def test_files_of_others_are_not_replaced(image_run: Path, checkpoint: Path, tmp_path: Path) -> None:
    second = second_run(image_run, tmp_path, checkpoint)
    for name in ("differences.parquet", "comparison.html"):
        folder = tmp_path / f"with {name}"
        folder.mkdir()
        (folder / name).write_bytes(b"mine")
        assert "is not of a comparison: move it away" in perceiver("compare", image_run, second, folder, code=2)
        assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [(name, b"mine")]
    assert "which holds a run and nothing else" in perceiver("compare", image_run, second, second / "x", code=2)
    assert "where the next run would read it" in perceiver(
        "compare", image_run, second, image_run.parent / "in/changes", code=2
    )
    (tmp_path / "file").write_bytes(b"mine")
    assert "is a file: DEST must be a folder" in perceiver("compare", image_run, second, tmp_path / "file", code=2)
    assert "cannot be written to" in perceiver("compare", image_run, second, "https://example.com/x", code=2)
