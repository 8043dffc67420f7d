"""report.html of runs in every state, and of inputs that are gone or changed; where it is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.reference.published_configs import SEQUENCE
from pipeline.report import report as report_module
from pipeline.report.report import report_line, write_report
from pipeline.report.target import Target
from pipeline.results import open_run
from pipeline.runtime.errors import TooMuchQuarantined, UsageError
from pipeline.storage import Store
from tests import example_runs
from tests.report.parsed_page import page_of, read_page


def test_originals_that_are_gone_changed_or_unreadable_have_a_reason_in_their_place(copied: Path) -> None:
    inputs = copied.parent / "in"
    (inputs / "e.png").unlink()
    (inputs / "cats/b.png").write_bytes((inputs / "dogs/d.png").read_bytes() + b"longer")
    page = page_of(copied)
    assert {each["alt"] for each in page.all("img", "class", "thumb")} == {*example_runs.IMAGES} - {
        "e.png",
        "cats/b.png",
    }
    assert len(page.all("div", "class", "gone")) == 2
    assert "Not shown. Missing: " in page.text
    assert "Not shown. Changed: " in page.text


def test_report_of_a_run_that_is_not_finished_counts_what_is_committed(copied: Path) -> None:
    (copied / "_run/manifest.json").unlink()
    last = sorted((copied / "predictions").iterdir())[-1]
    last.unlink()
    page = page_of(copied)
    assert "Not finished: 2 of 3 parts are committed (67%)" in page.text
    assert open_run(copied).status().rows == len(list(open_run(copied).rows(["id"])))


def test_report_before_the_first_part_says_so(copied: Path) -> None:
    (copied / "_run/manifest.json").unlink()
    shutil.rmtree(copied / "predictions")
    shutil.rmtree(copied / "quarantine")
    page = page_of(copied)
    assert "There is no row yet." in page.text
    assert "No part is committed yet." in page.text
    assert "No unit is quarantined." in page.text


def test_report_of_a_run_of_empty_files_says_that_there_are_no_units(
    text_models: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/empty.txt").touch()
    example_runs.run("text-classification", tmp_path / "in", tmp_path / "out", text_models[SEQUENCE])
    page = page_of(tmp_path / "out")
    assert "Finished" in page.text
    assert "rows 0 quarantined 0" in page.text
    assert "There is no row: INPUT has no units." in page.text
    assert "no units in the file" in page.text


def test_report_of_a_run_with_everything_quarantined_gives_reasons_and_advice(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(5):
        (tmp_path / f"in/{number}.jpg").write_bytes(b"<html>not an image")
    with pytest.raises(TooMuchQuarantined):
        example_runs.run("image-classification", tmp_path / "in", tmp_path / "out", checkpoint)
    page = page_of(tmp_path / "out")
    assert "There is no row: all units so far are quarantined." in page.text
    assert "BadMedium: 5 units" in page.text
    assert "Replace or convert it" in page.text


def test_a_report_replaces_an_earlier_one_but_no_other_file(copied: Path, tmp_path: Path) -> None:
    first = write_report(open_run(copied))
    assert first == str(copied / "report.html")
    written = (copied / "report.html").read_text()
    write_report(open_run(copied))
    assert len((copied / "report.html").read_text()) == len(written)
    other = tmp_path / "mine.html"
    other.write_text("<p>my own page</p>")
    with pytest.raises(UsageError, match=r"mine\.html exists and is not a report"):
        write_report(open_run(copied), Target.at(str(other)))
    assert other.read_text() == "<p>my own page</p>"
    assert write_report(open_run(copied), Target.at(str(tmp_path / "new/page.html"))) == str(tmp_path / "new/page.html")


def test_report_at_the_end_of_a_run_never_fails_it(
    copied: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert report_line(str(copied)) == f"report: {copied}/report.html"

    def fail(*_: object) -> str:
        raise OSError("disk is full")

    monkeypatch.setattr(report_module, "make_report", fail)
    assert report_line(str(copied)) == f"no report: disk is full; `perceiver report {copied}` writes it"


def test_report_of_an_output_on_s3_lies_in_it(s3, image_run: Path) -> None:
    output = Store(f"{s3.bucket('report')}/out")
    for path in sorted(path for path in image_run.rglob("*") if path.is_file()):
        output.put(str(path.relative_to(image_run)), path.read_bytes())
    assert write_report(open_run(output.uri)) == f"{output.uri}/report.html"
    write_report(open_run(output.uri))
    page = read_page(output.read("report.html").decode())
    assert len(page.all("img", "class", "thumb")) == len(example_runs.IMAGES)
