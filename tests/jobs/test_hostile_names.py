"""What the verbs print about names, labels and paths that would color, break, hide or reorder it, or are markup."""

from __future__ import annotations

import ast
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from jobs import verify
from jobs.cli import app
from pipeline.reference.parity import Difference
from pipeline.runtime.driver.display import Display
from pipeline.terminal import PlainTable, print_table
from tests.test_architecture import FILES

NAME = "n[red]m\x1b[31m\n\u202e\x9b\x1b]8;;http://x\x07:smile:é"
SHOWN = "n[red]m\\x1b[31m\\n\\u202e\\u009b\\x1b]8;;http://x\\x07:smile:é"
CLOSING = "a[/red]b"  # as a path: a folder and a name, which together are the end of a markup that never began
RAW = ("\x1b", "\u202e", "\x9b", "\x07", "\U0001f604")


def perceiver(*arguments: str | Path, code: int = 0) -> str:
    """Return everything that a verb prints, which must hold nothing that a terminal would obey."""
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "1000", "TERM": "dumb"})
    assert result.exit_code == code, result.output
    assert [raw for raw in RAW if raw in result.output] == []
    return result.output


@pytest.fixture
def hostile(tmp_path: Path, checkpoint: Path) -> list[str | Path]:
    """The arguments of a run whose INPUT, OUTPUT, checkpoint, files and labels have such names."""
    folder = tmp_path / CLOSING / NAME.replace("/", "")
    (folder / "in").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    for number in range(2):
        Image.fromarray(pixels).save(folder / "in" / f"{number}[bold]\x1b[31m\n\u202e.png")
    (folder / "in" / "damaged\x1b[31m\n[x].png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "in" / ".hidden\x1b[31m\n[x]").touch()
    model = Path(shutil.copytree(checkpoint, folder / "model"))
    config = json.loads((model / "config.json").read_text())
    config["id2label"] = {number: f"{number}{NAME}" for number in range(len(config["id2label"]))}
    config["label2id"] = {label: int(number) for number, label in config["id2label"].items()}
    (model / "config.json").write_text(json.dumps(config))
    places = folder / "in", folder / "out", "--checkpoint", model
    return ["image-classification", *places, "--max-quarantine", "1", "--shard-size", "2"]


def test_every_verb_about_a_run_shows_names_as_they_are(
    hostile: list[str | Path], tmp_path: Path, described_cluster: None
) -> None:
    output = Path(hostile[2])
    shown = f"{tmp_path}/{CLOSING}/{SHOWN.replace('/', '')}/out"
    planned = perceiver("plan", *hostile)
    assert f"image-classificationinto{shown}" in "".join(planned.split())  # the title is as wide as the table
    assert "hidden: .hidden\\x1b[31m\\n[x]" in planned
    unfinished = perceiver("status", output)
    assert f"of{shown[:-3]}in" in "".join(unfinished.split())
    assert "resumes the run: perceiver run image-classification $'" in unfinished
    ran = perceiver("run", *hostile).splitlines()
    assert f"{shown}/predictions" in ran
    assert f"report: {shown}/report.html" in ran
    assert any(line.startswith("quarantined: damaged\\x1b[31m\\n[x].png: ") for line in ran)
    assert any(line.startswith("next: perceiver export $'") for line in ran)
    assert shown in perceiver("status", output)
    assert perceiver("report", output) == f"{shown}/report.html\n"
    changes = tmp_path / "changes\n[x]\x1b"
    shutil.copytree(output, tmp_path / CLOSING / "copy")
    compared = perceiver("compare", output, tmp_path / CLOSING / "copy", changes).splitlines()
    assert compared[-1] == f"{tmp_path}/changes\\n[x]\\x1b/differences.parquet"
    assert any(shown in line for line in compared)
    rows = tmp_path / "rows\n[x]\x1b.csv"
    assert perceiver("export", output, rows, "--to", "csv").splitlines()[-1] == f"{tmp_path}/rows\\n[x]\\x1b.csv"
    assert NAME in rows.read_text()  # data are as they were


def test_json_lines_of_a_run_stay_json(hostile: list[str | Path], described_cluster: None) -> None:
    printed = perceiver("run", *hostile, "--log-format", "json")
    events = [json.loads(line) for line in printed.splitlines()]
    assert events[-1]["output"] == str(hostile[2])
    assert events[-1]["report"] == f"report: {hostile[2]}/report.html"


def test_errors_show_names_as_they_are(tmp_path: Path, checkpoint: Path) -> None:
    for missing in (f"{tmp_path}/{CLOSING}", f"{tmp_path}/x[bold]\x1b[31m\n\u202e"):
        printed = perceiver(
            "run", "image-classification", missing, tmp_path / "out", "--checkpoint", checkpoint, code=2
        )
        *_, error = printed.splitlines()
        assert error.startswith("error: ")
        name = missing.removeprefix(f"{tmp_path}/")
        assert name.replace("\x1b", "\\x1b").replace("\n", "\\n").replace("\u202e", "\\u202e") in error
    for verb in ("status", "report"):
        assert CLOSING in perceiver(verb, tmp_path / CLOSING, code=2)
    words = {
        "run": ["\x1b[/red]\n", "in", "out", "--checkpoint", "x"],
        "verify": ["\x1b[/red]\n", "--checkpoint", "x"],
        "bench": ["\x1b[/red]\n"],
        "submit": ["\x1b[/red]\n", "--address", "http://127.0.0.1:1"],
    }
    for verb, arguments in words.items():
        assert "[/red]\\n" in perceiver(verb, *arguments, code=2)
    assert "\\x1b[/red]\\n" in perceiver("\x1b[/red]\n", code=2)
    assert "[/red]\\n" in perceiver("demo", "s3://a[/red]\n", code=2)


def test_a_job_file_has_one_line_per_mistake(tmp_path: Path) -> None:
    job = tmp_path / "job\n[x].yaml"
    job.write_text('"repl[/red]\\n": 2\n"\\e[31m": 3\n')
    lines = perceiver("run", "--job", job, code=2).splitlines()
    assert lines[0] == f"error: {tmp_path}/job\\n[x].yaml:"
    assert [line.split(" is not")[0] for line in lines[1:3]] == ["  repl[/red]\\n", "  \\x1b[31m"]


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_shows_texts_as_they_are(terminal: bool) -> None:
    sink = io.StringIO()
    shown = Display(Console(file=sink, width=300, force_terminal=terminal, color_system=None))
    with shown.phase(f"{CLOSING} {NAME}"):
        shown.note(f"{CLOSING} {NAME}")
    assert f"{CLOSING} {SHOWN}\n" in sink.getvalue()
    assert f"{CLOSING} {SHOWN}{', 0 s' if terminal else ' …'}" in sink.getvalue()
    assert "\x1b[31m" not in sink.getvalue()
    assert "\u202e" not in sink.getvalue()


def test_tables_show_cells_and_titles_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    row = Difference(output=NAME, dtype="float32", against=CLOSING, max_abs_diff=0.0, range=1.0, relative=0.0)
    print_table(verify._table(CLOSING, [row]))
    table = PlainTable(title=NAME)
    table.add_row(CLOSING, NAME)
    print_table(table)
    printed = capsys.readouterr().out
    assert printed.count(SHOWN) == 3
    assert printed.count(CLOSING) == 3
    assert not any(raw in printed for raw in RAW)


def printing_calls(module: str) -> Iterator[str]:
    """Yield what a module does itself to print, or to make a table for a terminal."""
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "print":
            yield f"{module}: .print() in line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{module}: print() in line {node.lineno}"
        if isinstance(node, ast.ImportFrom) and node.module in ("rich", "rich.markup", "rich.table"):
            yield from (f"{module}: {name.name}" for name in node.names if name.name not in ("Column",))


def test_verbs_print_only_by_functions_that_escape() -> None:
    assert list(printing_calls("pipeline.terminal"))
    packages = "jobs", "pipeline.runtime.driver", "pipeline.report", "pipeline.python_api", "pipeline.benchmark.tables"
    found = [call for module in FILES if module.startswith(packages) for call in printing_calls(module)]
    assert [call for call in found if not call.startswith("pipeline.runtime.signals")] == []
