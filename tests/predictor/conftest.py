"""Small checkpoints of each task for predictors, and runs to compare them with."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipeline.runtime.driver.run import execute
from pipeline.runtime.options import RunOptions
from tests.runs_in_process import use_this_process

# Audio of 4 kHz, because small models are slow on more.
CLIP = {"num_frames": 16, "audio_samples_per_frame": 160, "samples_per_patch": 16, "output_shape": [1, 16, 16, 16]}


@pytest.fixture
def run_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[dict], list[dict]]]:
    """`run_rows(task, source, checkpoint, …)`: rows and quarantined units of a run in this process, by id."""

    def run(task: str, source: Path, checkpoint: Path, **options: Any) -> tuple[list[dict], list[dict]]:
        use_this_process(monkeypatch)
        output = tmp_path / f"out-{task}"
        options = {"max_quarantine": 1, "task": task, "checkpoint": str(checkpoint)} | options
        execute(RunOptions(input=str(source), output=str(output), **options), console=Console(file=io.StringIO()))
        rows, lost = (
            [row for path in sorted(output.glob(f"{name}/*.parquet")) for row in pq.read_table(path).to_pylist()]
            for name in ("predictions", "quarantine")
        )
        return rows, lost

    return run
