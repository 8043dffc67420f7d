"""No verb imports a module that lies in the working directory or in INPUT: driver, workers, child processes, submit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.sandbox import ResourceLimits, Sandbox

MODULES = (
    *("numpy", "torch", "PIL", "pyarrow", "pandas", "transformers", "safetensors", "av", "fsspec", "s3fs", "ray"),
    *("yaml", "rich", "typer", "pydantic", "cloudpickle", "json", "random", "socket", "html", "huggingface_hub"),
    *("jinja2", "markupsafe", "matplotlib"),
)
PERCEIVER = str(Path(sys.executable).with_name("perceiver"))


@pytest.fixture
def traps(tmp_path: Path, write_images: Callable[..., None]) -> Path:
    """A folder of images, and of modules that leave a file if they are imported."""
    folder, ran = tmp_path / "in", tmp_path / "ran"
    write_images(folder, range(4))
    ran.mkdir()
    for name in MODULES:
        code = f"open({str(ran / name)!r}, 'w').close()\nraise ImportError('a module of the working directory ran')\n"
        (folder / f"{name}.py").write_text(code)
    return folder


def assert_none_ran(traps: Path) -> None:
    assert sorted(path.name for path in (traps.parent / "ran").iterdir()) == []


@pytest.mark.parametrize(
    "command", [[PERCEIVER, "run"], pytest.param([sys.executable, "-m", "jobs.run"], marks=pytest.mark.slow)]
)
def test_run_in_a_folder_of_modules_imports_none_of_them(command: list[str], traps: Path, checkpoint: Path) -> None:
    output = traps.parent / "out"
    arguments = ["image-classification", ".", str(output), "--checkpoint", str(checkpoint), "--address", "local"]
    environment = os.environ | {"PYTHONPATH": os.pathsep + str(traps.parent)}  # an empty entry: the working directory
    ended = subprocess.run(
        [*command, *arguments], cwd=traps, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert_none_ran(traps)
    assert sum(pq.read_table(part).num_rows for part in output.glob("predictions/*.parquet")) == 4


def test_submit_in_a_folder_of_modules_imports_none_of_them(traps: Path) -> None:
    job = traps / "job.yaml"
    job.write_text("task: image-classification\ninput: s3://b/in\noutput: s3://b/out\ncheckpoint: a/b\n")
    command = [PERCEIVER, "submit", "job.yaml", "--address", "http://127.0.0.1:1"]
    ended = subprocess.run(command, cwd=traps, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "no Ray dashboard answers" in ended.stderr
    assert_none_ran(traps)


def test_child_process_imports_none_of_them(traps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(traps)
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # as in an interactive session
    monkeypatch.setenv("PYTHONPATH", "")
    with Sandbox(ResourceLimits(60.0)) as child:
        files = list(
            child.run(lambda: [str(__import__(name).__file__) for name in ("json", "numpy", "PIL", "pyarrow")])
        )
    assert all("lib/python" in file for file in files)
    assert_none_ran(traps)
