"""`perceiver export`: what it prints, its exit codes, and what it leaves after a failure."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from jobs import run
from jobs.cli import app
from pipeline.export import FORMATS
from pipeline.runtime.options import RunOptions


def perceiver(*arguments: str | Path) -> tuple[int, str]:
    """Return the exit code and everything printed."""
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    return result.exit_code, result.output


def test_what_was_written_is_said(flow_run: Path, tmp_path: Path) -> None:
    command = flow_run, tmp_path / "flo", "--to", "flo", "--where", "frame_index > 0"
    written, present = perceiver(*command), perceiver(*command)
    assert written == (0, f"3 files written, 3 rows\nthe file of each id: {tmp_path}/flo/index.csv\n{tmp_path}/flo\n")
    assert present[1].startswith("0 files written, 3 there already, 3 rows\n")


def test_units_come_from_options_and_a_file(flow_run: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("\ufefftwo.mp4#0.000\n\ndrives/one.mp4#0.040\n", encoding="utf-8")
    code, printed = perceiver(
        flow_run, tmp_path / "k", "--to", "kitti", "--ids", tmp_path / "ids.txt", "--id", "two.mp4#0.040"
    )
    assert (code, printed.splitlines()[0]) == (0, "3 files written, 3 rows")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "flo", "--id", "x"], "'x' is not the id of a unit with a row"),
        (["--to", "flo", "--ids", "none.txt"], "--ids (none.txt) must be a text file in UTF-8 with an id per line"),
        (["--to", "flo", "--ids", "empty.txt"], "--ids (empty.txt) has no ids: write one per line"),
        (["--to", "flo", "--where", "frame_indx = 1"], "did you mean frame_index"),
        (["--to", "mp4"], "has no video: its task is optical-flow"),
        (["--to", "floh"], "(did you mean flo?)"),
        (["--to", "csv", "--columns", "id,frame_indx"], "column 'frame_indx' must be one of id, uri, "),
        (["--to", "csv", "--columns", "id,frame_indx"], "(did you mean frame_index?)"),
        (["--to", "csv", "--columns", "id,id"], "--columns names id 2 times: name it once"),
        (["--to", "csv", "--columns", "id,flow"], "--columns names flow, which holds arrays or media"),
        (["--to", "csv", "--columns", ","], "--columns must name one or more of id, uri, "),
        (["--to", "flo", "--columns", "id"], "--columns is not supported for --to flo, only for csv, jsonl"),
    ],
)
def test_wrong_usage_exits_with_2(
    arguments: list[str], words: str, flow_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("\n")
    code, printed = perceiver(flow_run, "dest", *arguments)
    assert code == 2
    assert words in printed
    assert not Path("dest").exists()


@pytest.mark.parametrize(
    ("to", "begin"),
    [("csv", "frame_index,id\n0,drives/one.mp4#0.000\n"), ("jsonl", '{"frame_index": 0, "id": "drives')],
)
def test_columns_of_a_table_are_those_that_are_named_in_their_order(
    to: str, begin: str, flow_run: Path, tmp_path: Path
) -> None:
    code, printed = perceiver(flow_run, tmp_path / "rows", "--to", to, "--columns", "frame_index, id")
    assert (code, printed) == (0, f"1 file written, 5 rows\n{tmp_path}/rows\n")
    assert (tmp_path / "rows").read_text().startswith(begin)


def test_a_folder_without_a_run_exits_with_2(tmp_path: Path) -> None:
    code, printed = perceiver(tmp_path, tmp_path / "dest", "--to", "csv")
    assert code == 2
    assert "is not the OUTPUT of a run" in printed


def test_a_full_disk_exits_with_1_and_the_same_command_continues(image_run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.export", str(image_run), str(tmp_path / "rows.csv"), "--to", "csv"]

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

    failed = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=small_disk)
    assert failed.returncode == 1
    assert "no space when writing" in failed.stderr
    assert "the same command continues the export" in failed.stderr
    assert not (tmp_path / "rows.csv").exists()
    code, printed = perceiver(*command[3:])
    assert (code, printed.splitlines()[0]) == (0, "1 file written, 8 rows")


def test_help_names_every_format() -> None:
    code, printed = perceiver("--help")
    assert code == 0
    assert all(name in printed.replace("\n", " ") for name in FORMATS)


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ("optical-flow", {}, "colors/ --to flow-video"),
        ("optical-flow", {"points": ((1, 2),)}, "rows.csv --to csv"),
        ("multimodal-autoencoding", {}, "videos/ --to mp4"),
        ("multimodal-autoencoding", {"outputs": ("label",)}, "rows.csv --to csv"),
        ("fill-mask", {}, "rows.csv --to csv"),
    ],
)
def test_a_run_ends_with_an_export_that_it_can_have(task: str, options: dict, words: str) -> None:
    chosen = RunOptions(task=task, input="in", output="out", checkpoint="c", **options)
    summary = SimpleNamespace(output="/a b", quarantined=0)
    (line,) = run._next_steps(chosen, summary)
    assert line.startswith(f"next: perceiver export '/a b' {words}, ")
