"""The section about known labels: figures, probable mistakes with their originals, and why there may be none."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.labelling import extra
from pipeline.report.report import make_report
from pipeline.results import Results, open_run
from pipeline.sources.label_files import LabelFile, read_label_file
from tests.report.parsed_page import read_page

HOSTILE = "<script>alert(1)</script>\u202e"


def labels_of(run: Results, folder: Path, *changes: str) -> LabelFile:
    """Label each unit as it was predicted, but the first ones with these labels."""
    rows = list(run.rows(["id", "label"]))
    chosen = [*changes, *(row["label"] for row in rows[len(changes) :])]
    lines = [f'"{row["id"]}","{label}"\n' for row, label in zip(rows, chosen, strict=True)]
    (folder / "labels.csv").write_text("id,label\n" + "".join(lines))
    return read_label_file(str(folder / "labels.csv"))


def section(html: str) -> str:
    """Return the text of the section, "" if there is none."""
    text = read_page(html).text
    return text[text.index("Known labels") : text.index("Quarantine")] if "Known labels" in text else ""


def test_section_compares_predictions_with_known_labels(image_run: Path, tmp_path: Path) -> None:
    run = open_run(image_run)
    rows = run.status().rows
    other = next(name for name in run.run.label_names if name not in {row["label"] for row in run.rows(["label"])})
    html = make_report(run, labels_of(run, tmp_path, other))
    shown = section(html)
    assert f"{100 * (rows - 1) / rows:.1f} % accuracy".split()[0] in shown
    assert "What was taken for what most often" in shown
    assert other in shown
    assert "Calibration" in shown
    assert section(make_report(run)) == ""


def test_labels_that_do_no_harm_are_shown_as_they_are(image_run: Path, tmp_path: Path) -> None:
    run = open_run(image_run)
    html = make_report(run, labels_of(run, tmp_path, HOSTILE))
    assert "<script>" not in html
    assert "\u202e" not in html
    assert "left out: 1 unit with labels that the checkpoint does not have" in section(html)


def test_page_says_why_there_are_no_metrics(image_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(image_run)
    labels = labels_of(run, tmp_path)
    monkeypatch.setattr(extra, "_PACKAGES", ("no_such_package",))
    assert "No metrics: metrics of labels need the packages of an extra: pip install" in section(
        make_report(run, labels)
    )
    monkeypatch.undo()
    (tmp_path / "labels.csv").write_text("id,label\nx,y\n")
    shown = section(make_report(run, read_label_file(str(tmp_path / "labels.csv"))))
    assert "none of its 1 id has a row" in shown


def test_verb_takes_a_file_of_labels(image_run: Path, tmp_path: Path) -> None:
    labels_of(open_run(image_run), tmp_path)
    arguments = ["report", str(image_run), "--to", str(tmp_path / "r.html"), "--labels", str(tmp_path / "labels.csv")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "100.0 %" in section((tmp_path / "r.html").read_text())
    result = CliRunner().invoke(app, [*arguments[:-1], str(tmp_path / "missing.csv")])
    assert result.exit_code == 2
    assert "the file with labels does not exist" in " ".join(result.output.split())
