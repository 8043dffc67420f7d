"""The command line: its options and help, what it refuses, and with which exit code."""

from __future__ import annotations

import io
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from jobs.cli import VERBS, app
from jobs.cli_support import add_left_out
from pipeline.runtime.options import RunOptions
from pipeline.runtime.records.listing import ListedInputs
from pipeline.terminal import PlainTable

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
WIDTH = 80


def options_of(verb: str) -> list[Any]:
    """Return the options of a verb, without its arguments."""
    command = get_command(app).get_command(None, verb)  # type: ignore[attr-defined]
    return [parameter for parameter in command.params if parameter.opts[0].startswith("--")]


def flags(verb: str) -> set[str]:
    """Return the options of a verb as they are typed, without their `--no-` forms."""
    return {name for parameter in options_of(verb) for name in parameter.opts}


def perceiver(*arguments: str) -> tuple[int, str]:
    """Return the exit code and everything printed, in one line."""
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, " ".join(result.output.split())


def test_every_verb_is_documented() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    for verb in VERBS:
        assert f"perceiver {verb}" in text or f"make {verb}" in text


def test_version_is_the_package_s() -> None:
    assert perceiver("--version") == (0, f"perceiver-pipeline {version('perceiver-pipeline')}")


def test_options_of_a_run_keep_their_names() -> None:
    assert flags("run") == flags("plan") == {
        "--job", "--output", "--checkpoint", "--from-latents",
        "--input-format", "--column", "--id-column", "--keep-columns", "--label-column", "--label-from", "--labels",
        "--text-unit", "--csv-quoting", "--fps", "--clip-stride", "--short-clip", "--transparency", "--replicas",
        "--devices-per-replica", "--device",
        "--dtype", "--batch-size", "--shard-size", "--top-k", "--logits", "--latents", "--arrays", "--array-dtype",
        "--points", "--frames", "--outputs", "--limit", "--max-quarantine", "--changed", "--retry-quarantined",
        "--repair", "--stall-timeout", "--unit-seconds", "--unit-memory", "--trusted-inputs", "--address",
        "--single-writer", "--report", "--log-format", "--quiet", "--blank-text", "--start", "--end", "--max-side",
        "--flow-scale", "--probe",
    }  # fmt: skip
    assert flags("submit") == {"--address", "--wait", "--submission-id"}
    switches = [parameter for parameter in options_of("run") if parameter.secondary_opts]
    assert {name for parameter in switches for name in parameter.secondary_opts} == {
        "--no-logits", "--no-latents", "--no-arrays", "--no-single-writer", "--no-retry-quarantined", "--no-repair",
        "--no-trusted-inputs", "--no-report", "--no-quiet",
    }  # fmt: skip


def test_every_option_has_a_description() -> None:
    assert all(field.description for field in RunOptions.model_fields.values())


def test_options_of_a_run_are_grouped_in_the_help() -> None:
    panels = {
        parameter.rich_help_panel for parameter in options_of("run") if not {"--job", "--output"} & {*parameter.opts}
    }
    assert panels == {"Input", "Model", "Output", "Resources", "Fault tolerance", "Display"}


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_into_80_columns_with_examples_and_no_name_cut(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH)})
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= WIDTH
    names = {word for line in lines for word in line.split() if word.startswith("--")}
    assert flags(verb) <= names
    cut = [line for line in lines if "…" in line and "1, 2, 4 …" not in line]
    assert not cut
    assert "Example" in result.output
    assert f"\n perceiver {verb} " in result.output, "an example"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "image-classification", "in", "out"], "--checkpoint is required"),
        (["run"], "TASK is required"),
        (["run", "image-classification", "in"], "OUTPUT is required"),
        (["run", "image-classification", "in", "out", "--checkpoint", "x", "--replica", "2"], "--replicas"),
        (
            ["run", "optical-flow", "in", "out", "--checkpoint", "x", "--points", "10,20 30,x"],
            "--points (x) must be an integer, as in 10,20 30,40",
        ),
        (
            ["run", "optical-flow", "in", "out", "--checkpoint", "x", "--points", "10,20,30"],
            "--points (10,20,30) must be a pair of numbers, as in 10,20 30,40",
        ),
        (
            ["run", "optical-flow", "in", "out", "--checkpoint", "x", "--frames", "1,-2"],
            "--frames (-2) must be at least 0, as in 0,8,15",
        ),
        (["run", "optical-flow", "in", "out", "--checkpoint", "x", "--fps", "0"], "--fps (0) must be greater than 0"),
        (["submit"], "JOB"),
        (
            ["run", "image-classification", "in", "out", "--checkpoint", "x", "--replicas", "0"],
            "--replicas (0) must be auto or at least 1",
        ),
        (
            ["run", "image-classification", "in", "out", "--checkpoint", "x", "--batch-size", "few"],
            "--batch-size (few) must be auto or an integer",
        ),
        (
            ["run", "image-classification", "in", "out", "--checkpoint", "x", "--shard-size", "1000000000000"],
            "--shard-size (1000000000000) must be at most 1,000,000",
        ),
        (
            ["run", "image-classification", "in", "out", "--checkpoint", "x", "--stall-timeout", "inf"],
            "--stall-timeout (inf) must be a finite number",
        ),
        (["status", "out", "--interval", "nan"], "'--interval'"),
        (["bench", "--repeats", "1" * 20], "'--repeats'"),
        (["verify", "fill-mask", "--checkpoint", "x", "--seed", "-1"], "'--seed'"),
        (["rum"], "there is no verb 'rum' (did you mean run?); the verbs are run, plan, status"),
        (["--versoin"], "there is no option --versoin (did you mean --version?)"),
        (["run", "--chekpoint", "x"], "there is no option --chekpoint (did you mean --checkpoint?)"),
        (["export", "out"], "missing argument 'DEST'"),
        (["verify", "filmask", "--checkpoint", "x"], "(did you mean fill-mask?)"),
        (["bench", "opticalflow"], "(did you mean optical-flow?)"),
        (["verify", "fill-mask", "--checkpoint", "x", "--dtype", "float8"], "bfloat16"),
        (["bench", "nonsense"], "'nonsense' must be one of fill-mask, image-classification"),
        (["bench", "--device", "tpu"], "cuda"),
        (["bench", "--daft"], "--daft requires --pipeline"),
        (["bench", "--pipeline", "--scaling"], "--pipeline and --scaling cannot be combined"),
        (["bench", "--small"], "--small and --units require --pipeline or --scaling"),
    ],
)
def test_wrong_usage_exits_2_and_names_the_mistake(arguments: list[str], message: str) -> None:
    code, output = perceiver(*arguments)
    assert code == 2
    assert message in output


def test_errors_of_all_kinds_look_the_same(tmp_path: Path) -> None:
    commands = [["rum"], ["run", "--nonsense"], ["run"], ["status", str(tmp_path)], ["bench", "nonsense"], ["export"]]
    for command in commands:
        result = CliRunner().invoke(app, command)
        assert (result.exit_code, result.stdout) == (2, "")
        first, *more = result.stderr.splitlines()
        assert first.startswith("error: ")
        assert not more or (len(more) == 1 and more[0].endswith("--help` shows the usage"))


def test_unknown_task_exits_2(tmp_path: Path) -> None:
    code, output = perceiver("run", "image-clasification", str(tmp_path), str(tmp_path / "out"), "--checkpoint", "x")
    assert code == 2
    assert "did you mean image-classification?" in output


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("s3://bucket/out", "s3://bucket/out is not a local folder"),
        ("s3://key:canary-of-mine@bucket/out", "must not contain a user, password or query string"),
    ],
)
def test_demo_writes_to_this_machine_only(
    output: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed = perceiver("demo", output)
    assert code == 2
    assert "bucket/out" in printed
    assert message in printed
    assert "canary-of-mine" not in printed
    assert list(tmp_path.iterdir()) == []


def test_status_of_an_empty_folder_exits_2(tmp_path: Path) -> None:
    code, output = perceiver("status", str(tmp_path))
    assert code == 2
    assert "is not the OUTPUT of a run" in output


def test_help_of_the_program_imports_neither_torch_nor_ray() -> None:
    lines = "import sys, jobs.cli\ntry: jobs.cli.app(['--help'])\nexcept SystemExit: pass\n"
    lines += "print([name for name in ('torch', 'ray', 'transformers') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert result.stdout.strip().endswith("[]")


def test_plan_and_status_name_what_is_left_out_by_reason() -> None:
    listed = ListedInputs(
        read=3, left_out={"hidden": 1, "unknown kind": 3}, first={"hidden": ["[x]/_a.jpg"], "unknown kind": ["a", "b"]}
    )
    sink, table = io.StringIO(), PlainTable(title="", show_header=False, box=None)
    add_left_out(table, listed)
    add_left_out(table, ListedInputs(read=3))
    Console(file=sink, width=100).print(table)
    assert [line.strip() for line in sink.getvalue().splitlines()] == [
        "left out  1, hidden: [x]/_a.jpg",
        "left out  3, unknown kind: a, b and 1 more",
        "left out  0",
    ]
