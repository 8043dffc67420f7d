"""`perceiver report`, and the report at the end of `perceiver run`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app


def perceiver(*arguments: str) -> tuple[int, list[str]]:
    """Return the exit code and the printed lines."""
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output.splitlines()


def test_a_run_names_its_report_and_leaves_it_out_on_demand(
    image_folder: Path, checkpoint: Path, tmp_path: Path, backend: None
) -> None:
    output = tmp_path / "out"
    command = ["run", "image-classification", str(image_folder), str(output), "--checkpoint", str(checkpoint)]
    code, lines = perceiver(*command, "--max-quarantine", "0.1", "--no-report")
    assert code == 0
    assert not [line for line in lines if line.startswith("report")]
    assert not (output / "report.html").exists()
    code, lines = perceiver(*command, "--max-quarantine", "0.1")
    assert code == 0
    assert f"report: {output}/report.html" in lines
    assert "55" in (output / "report.html").read_text()


def test_a_run_that_quarantines_too_much_has_a_report_too(
    image_folder: Path, checkpoint: Path, tmp_path: Path, backend: None
) -> None:
    output = tmp_path / "out"
    code, lines = perceiver(
        "run", "image-classification", str(image_folder), str(output), "--checkpoint", str(checkpoint)
    )
    assert code == 3
    assert f"report: {output}/report.html" in lines
    assert "BadMedium" in (output / "report.html").read_text()


def test_report_of_a_folder_that_is_no_output_exits_2(tmp_path: Path) -> None:
    code, lines = perceiver("report", str(tmp_path))
    assert code == 2
    assert "is not the OUTPUT of a run" in " ".join(lines)


@pytest.mark.parametrize("to", ["labels/", "s3://bucket"])
def test_a_report_needs_the_name_of_a_file(to: str, image_run: Path) -> None:
    code, lines = perceiver("report", str(image_run), "--to", to)
    assert code == 2
    assert "is not the path of a file" in " ".join(lines)
