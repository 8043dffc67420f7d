"""The command line: what it is called, what it refuses, and with which exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from jobs.cli import VERBS, app
from pipeline.runtime.options import RunOptions

README = (Path(__file__).parents[2] / "README.md").read_text()


def flags(verb: str) -> set[str]:
    """The options of a verb, as they are typed."""
    group = get_command(app)
    command = group.get_command(None, verb)  # type: ignore[attr-defined]
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")}


def told(*arguments: str) -> tuple[int, str]:
    """Exit code and everything printed, without the frames and line breaks that a terminal's width brings."""
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, " ".join(result.output.replace("│", " ").split())


def test_verbs_are_documented() -> None:
    for verb in VERBS:
        assert f"perceiver {verb}" in README or f"make {verb}" in README


def test_options_of_a_run_are_frozen() -> None:
    assert flags("run") == flags("plan") == {
        "--job", "--checkpoint", "--from-latents", "--input-format", "--column", "--id-column", "--keep-columns",
        "--text-unit", "--fps", "--clip-stride", "--short-clip", "--replicas", "--devices-per-replica", "--device",
        "--dtype", "--batch-size", "--shard-size", "--top-k", "--logits", "--latents", "--arrays", "--array-dtype",
        "--points", "--frames", "--outputs", "--limit", "--max-quarantine", "--changed", "--retry-quarantined",
        "--stall-timeout", "--unit-seconds", "--unit-memory", "--trusted-inputs", "--address", "--single-writer",
    }  # fmt: skip
    assert flags("submit") == {"--address", "--wait", "--submission-id"}


def test_every_field_of_the_options_has_a_description() -> None:
    assert all(field.description for field in RunOptions.model_fields.values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "image-classification", "in", "out"], "--checkpoint"),
        (["run"], "TASK is required"),
        (["run", "image-classification", "in"], "OUTPUT is required"),
        (["run", "image-classification", "in", "out", "--checkpoint", "x", "--replica", "2"], "--replicas"),
        (
            ["run", "optical-flow", "in", "out", "--checkpoint", "x", "--points", "10,20 30,x"],
            "--points (x) must be an integer, as in 10,20 30,40",
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
        (["rum"], "rum"),
        (["verify", "nonsense", "--checkpoint", "x"], "image-classification"),
        (["verify", "fill-mask", "--checkpoint", "x", "--dtype", "float8"], "bfloat16"),
        (["bench", "nonsense"], "optical-flow-perceiver"),
        (["bench", "--device", "tpu"], "cuda"),
    ],
)
def test_wrong_usage_exits_2_and_names_it(arguments: list[str], words: str) -> None:
    code, output = told(*arguments)
    assert code == 2
    assert words in output


def test_unknown_task_exits_2(tmp_path: Path) -> None:
    code, output = told("run", "image-clasification", str(tmp_path), str(tmp_path / "out"), "--checkpoint", "x")
    assert code == 2
    assert "image-classification" in output


def test_no_match_exits_2_before_any_work(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "pictures").mkdir()
    out = tmp_path / "out"
    given = ["run", "image-classification", str(tmp_path / "pictures"), str(out), "--checkpoint", str(checkpoint)]
    code, output = told(*given)
    assert code == 2
    assert "pictures" in output
    assert not list(out.glob("predictions/*"))


def test_missing_checkpoint_exits_2(pictures: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "no-model")
    code, output = told("run", "image-classification", str(pictures), str(tmp_path / "out"), "--checkpoint", missing)
    assert code == 2
    assert "no-model" in output


def test_secret_in_a_uri_is_refused_and_not_repeated(tmp_path: Path) -> None:
    given = ["run", "image-classification", "s3://key:canary-secret@bucket/x", str(tmp_path), "--checkpoint", "x"]
    code, output = told(*given)
    assert code == 2
    assert "canary-secret" not in output


@pytest.mark.parametrize("output", ["s3://bucket/out", "s3://key:canary-of-mine@bucket/out"])
def test_the_demo_writes_to_this_machine_only(output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = told("demo", output)
    assert code == 2
    assert "bucket/out" in said
    assert "canary-of-mine" not in said
    assert list(tmp_path.iterdir()) == []


def test_status_of_nothing_exits_2(tmp_path: Path) -> None:
    code, output = told("status", str(tmp_path))
    assert code == 2
    assert "run" in output


def test_help_of_the_program_needs_neither_torch_nor_ray() -> None:
    lines = "import sys, jobs.cli\ntry: jobs.cli.app(['--help'])\nexcept SystemExit: pass\n"
    lines += "print([name for name in ('torch', 'ray', 'transformers') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert result.stdout.strip().endswith("[]")
