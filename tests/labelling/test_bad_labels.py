"""Labels that are wrong, too few, too many or hostile, and embeddings that are not finite: what every verb does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from tests import example_runs
from tests.labelling.test_probe import images
from tests.report.parsed_page import read_page

HOSTILE = "[/red]<b>\x1b[31m\u202e"
SHOWN = "'[/red]<b>\\x1b[31m\\u202e'"
UNITS = [f"{number}.png" for number in range(8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """`in`, eight images; `classified` and `features`, OUTPUTs of their labels and of their embeddings."""
    folder = tmp_path_factory.mktemp("runs")
    images(folder)
    example_runs.run("image-classification", folder / "in", folder / "classified", checkpoint)
    example_runs.run("feature-extraction", folder / "in", folder / "features", checkpoint)
    return folder


@pytest.fixture
def perceiver(folder: Path, tmp_path: Path, checkpoint: Path, described_cluster: None) -> Callable[..., str]:
    """`perceiver(case, code=0)`: run a verb with labels.csv and return what it prints, for `report` the page."""
    labels = ["--labels", str(tmp_path / "labels.csv")]
    places = [str(folder / "in"), str(tmp_path / "out"), "--checkpoint", str(checkpoint), "--no-report"]
    cases = {
        "run": ["run", "image-classification", *places],
        "report": ["report", str(folder / "classified"), "--to", str(tmp_path / "report.html")],
        "mistakes": ["export", str(folder / "classified"), str(tmp_path / "a.csv"), "--to", "mistakes"],
        "mistakes of a probe": ["export", str(folder / "features"), str(tmp_path / "b.csv"), "--to", "mistakes"],
        "queue": ["export", str(folder / "classified"), str(tmp_path / "c.csv"), "--to", "queue"],
        "dataset": ["export", str(folder / "classified"), str(tmp_path / "set"), "--to", "dataset"],
        "probe": ["probe", str(folder / "features"), str(tmp_path / "probe")],
    }

    def run(case: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, [*cases[case], *labels], env={"COLUMNS": "1000", "TERM": "dumb"})
        assert result.exit_code == code, result.output
        assert not {"\x1b", "\u202e"} & set(result.output)
        if case != "report" or code:
            return result.output
        return read_page((tmp_path / "report.html").read_text()).text

    return run


CASES = ("run", "report", "mistakes", "mistakes of a probe", "queue", "dataset", "probe")


def write(folder: Path, labels: dict[str, str]) -> None:
    lines = (f'"{unit}","{label}"\n' for unit, label in labels.items())
    (folder / "labels.csv").write_text("id,label\n" + "".join(lines))


def in_turn(*labels: str) -> dict[str, str]:
    """Label the units in turn."""
    return {unit: labels[number % len(labels)] for number, unit in enumerate(UNITS)}


@pytest.mark.parametrize("case", CASES)
def test_ids_without_a_row_are_counted_and_ten_of_them_named(
    perceiver: Callable[..., str], tmp_path: Path, case: str
) -> None:
    write(tmp_path, in_turn("LABEL_0", "LABEL_1") | {f"x{number:02d}": "LABEL_0" for number in range(12)})
    named = ", ".join(f"'x{number:02d}'" for number in range(10))
    assert f"labels.csv: 12 of 20 ids are without a row: {named} and 2 more" in perceiver(case)


@pytest.mark.parametrize("case", CASES)
def test_file_of_another_run_is_refused(perceiver: Callable[..., str], tmp_path: Path, case: str) -> None:
    write(tmp_path, {"y.png": "LABEL_0", HOSTILE: "LABEL_1"})
    reason = f"labels.csv: none of its 2 ids has a row, for example {SHOWN}; ids of rows look like "
    assert reason in perceiver(case, 0 if case in ("run", "report") else 2)  # which show something else, too


@pytest.mark.parametrize("case", CASES)
def test_two_labels_of_one_id_are_refused_before_any_work(
    perceiver: Callable[..., str], tmp_path: Path, case: str
) -> None:
    (tmp_path / "labels.csv").write_text(f"id,label\n0.png,LABEL_0\n0.png,{HOSTILE}\n")
    assert f"labels.csv: the id '0.png' has two labels, 'LABEL_0' and {SHOWN}: keep" in perceiver(case, code=2)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]


def test_a_label_of_one_unit_is_compared_but_no_probe_can_have_it(
    perceiver: Callable[..., str], tmp_path: Path
) -> None:
    write(tmp_path, in_turn("LABEL_0") | {"7.png": "LABEL_1"})
    assert "labelled units 8" in perceiver("report")
    assert "of 8 labels" in perceiver("mistakes")
    assert "8 rows" in perceiver("dataset")
    for case in ("probe", "mistakes of a probe"):
        assert "a probe needs at least 3 units of each label; fewer have 'LABEL_1' (1): label" in perceiver(case, 2)


def test_one_label_only_is_compared_but_neither_ranked_nor_fitted(
    perceiver: Callable[..., str], tmp_path: Path
) -> None:
    write(tmp_path, in_turn("LABEL_1"))
    page = perceiver("report")
    assert "labelled units 8" in page
    reason = "all known labels are the same: mistakes show only where there are two labels or more"
    assert f"Not ranked: {reason}" in page
    assert reason in perceiver("mistakes", code=2)
    for case in ("probe", "mistakes of a probe"):
        assert "all labelled units have the label 'LABEL_1': a probe needs at least two labels" in perceiver(case, 2)


@pytest.mark.parametrize("case", CASES)
def test_labels_with_markup_are_shown_as_they_are(perceiver: Callable[..., str], tmp_path: Path, case: str) -> None:
    write(tmp_path, in_turn("LABEL_0", "LABEL_1") | {"7.png": HOSTILE, "6.png": HOSTILE})
    refused = case in ("probe", "mistakes of a probe")
    printed = perceiver(case, 2 if refused else 0)
    said = {
        "queue": "8 units in all, less 8 with a known label",
        "dataset": f"2 units with known labels that the run does not have, which follow its own: {SHOWN}",
    }
    foreign = f"left out: 2 units with labels that the checkpoint does not have: {SHOWN}"
    assert said.get(case, f"fewer have {SHOWN} (2)" if refused else foreign) in printed
    if case == "report":
        assert "<b>\x1b" not in (tmp_path / "report.html").read_text()


def test_a_hundred_thousand_labels_in_a_file_are_counted(perceiver: Callable[..., str], tmp_path: Path) -> None:
    units = in_turn(*(f"one of many {number}" for number in range(8)))
    write(tmp_path, units | {f"x{number}": f"label {number}" for number in range(100_000)})
    rest = "labels.csv: 100,000 of 100,008 ids are without a row"
    for case in ("report", "run"):
        printed = perceiver(case)
        assert "none of the known labels is one of the checkpoint: 'one of many 0', 'one of many 1'" in printed
    assert rest in perceiver("dataset")
    assert "fewer have 'one of many 0' (1)" in perceiver("probe", code=2)
    assert "none of the known labels is one of the checkpoint" in perceiver("mistakes", code=2)


def test_a_run_with_a_hundred_thousand_labels_is_compared(folder: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(folder / "classified", tmp_path / "out"))
    record = json.loads((output / "_run/run.json").read_text())
    record["labels"] += [f"one of many {number}" for number in range(100_000)]
    (output / "_run/run.json").write_text(json.dumps(record))
    write(tmp_path, in_turn(*(f"one of many {number}" for number in range(4)), "one of mony"))
    labels = ["--labels", str(tmp_path / "labels.csv")]
    for arguments in (["report", str(output)], ["export", str(output), str(tmp_path / "m.csv"), "--to", "mistakes"]):
        result = CliRunner().invoke(app, [*arguments, *labels], env={"COLUMNS": "1000"})
        assert result.exit_code == 0, result.output
    assert "labels that the checkpoint does not have: 'one of mony'" in result.output
    page = read_page((output / "report.html").read_text()).text
    assert "labelled units 7" in page
    assert "one of many 3" in page


def test_mistakes_among_too_many_labels_are_refused(
    perceiver: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.labelling.mistakes.MAX_LABELS", 1)
    write(tmp_path, in_turn("LABEL_0", "LABEL_1"))
    reason = "there are 2 known labels, and mistakes are ranked among at most 1: is it the right column?"
    assert reason in perceiver("mistakes", code=2)
    assert f"Not ranked: {reason}" in perceiver("report")


def test_mistakes_in_the_report_are_those_of_some_units_if_there_are_many(
    perceiver: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.report.sections.known_labels.MAX_PROBABILITIES", 10)
    write(tmp_path, in_turn("LABEL_0", "LABEL_1"))
    page = perceiver("report")
    assert "labelled units 8" in page
    assert "of 5 known labels" in page or "Of 5 known labels" in page


def test_embeddings_that_are_not_finite_are_named(folder: Path, tmp_path: Path) -> None:
    def damaged(row: dict) -> dict:
        return row | ({"embedding": np.full(len(row["embedding"]), np.inf)} if row["id"] == "3.png" else {})

    output = str(example_runs.copied_with_rows(folder / "features", tmp_path / "out", damaged))
    write(tmp_path, in_turn("a", "b"))
    labels = ["--labels", str(tmp_path / "labels.csv")]
    for arguments in (
        ["probe", output, str(tmp_path / "probe"), *labels],
        ["export", output, str(tmp_path / "m.csv"), "--to", "mistakes", *labels],
        ["export", output, str(tmp_path / "d.csv"), "--to", "duplicates"],
    ):
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "1000"})
        assert result.exit_code == 2, result.output
        assert "error: embeddings of 1 unit are not finite: '3.png'. Leave them out with --where" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.csv", "out"]
    where = ["--where", "id <> '3.png'"]
    result = CliRunner().invoke(app, ["probe", output, str(tmp_path / "probe"), *labels, *where])
    assert result.exit_code == 0, result.output
