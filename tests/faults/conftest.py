"""Runs whose inputs are bad, small models for them, and what became of each input."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipeline.reference.shapes import small
from pipeline.reference.weights import make_checkpoint
from pipeline.runtime import RunOptions
from pipeline.runtime.run import Summary, execute
from pipeline.storage import Store


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run ended with: its summary, and every row and quarantined unit by its id."""

    summary: Summary
    rows: dict[str, dict[str, Any]]
    quarantined: dict[str, dict[str, Any]]

    def predicted(self, key: str) -> list[dict[str, Any]]:
        """The rows of one file, in plan order. No key has a `#` in it here."""
        return [row for name, row in self.rows.items() if name.partition("#")[0] == key]

    def reasons(self, key: str) -> dict[str, str]:
        """Why units of one file are in quarantine, by id."""
        return {name: unit["message"] for name, unit in self.quarantined.items() if name.partition("#")[0] == key}


def outcome(summary: Summary) -> Outcome:
    """What lies in OUTPUT; every unit is there once, as a row or in quarantine."""
    output = Store(summary.output)
    found: dict[str, list[dict[str, Any]]] = {}
    for folder in ("predictions/", "quarantine/"):
        tables = [pq.read_table(io.BytesIO(output.read(key))) for key in output.names(folder)]
        found[folder] = [row for table in tables for row in table.to_pylist()]
    rows, quarantined = ({row["id"]: row for row in units} for units in found.values())
    assert summary.units == summary.rows + summary.quarantined
    assert (summary.rows, summary.quarantined) == (len(found["predictions/"]), len(found["quarantine/"]))
    assert len(rows.keys() | quarantined.keys()) == summary.units, "no id is there twice"
    for unit in quarantined.values():
        assert unit["message"]
        assert unit["uri"].startswith(("/", "s3://"))
    return Outcome(summary=summary, rows=rows, quarantined=quarantined)


@pytest.fixture
def run(tmp_path: Path, cluster: None) -> Callable[..., Outcome]:
    """`run(task, checkpoint, source, **asked)`: what became of every unit of a folder, however many are quarantined."""

    def run_to_end(task: str, checkpoint: Path, source: str | Path, **asked: Any) -> Outcome:
        given = {"output": str(tmp_path / "out"), "max_quarantine": 1.0} | asked
        options = RunOptions(task=task, input=str(source), checkpoint=str(checkpoint), **given)
        return outcome(execute(options, console=Console(file=io.StringIO())))

    return run_to_end


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`checkpoints(model_class, **changes)`: a small random model, made once."""
    made: dict[str, Path] = {}

    def make(model_class: str, **changes: Any) -> Path:
        name = f"{model_class}-{changes}"
        if name not in made:
            folder = tmp_path_factory.mktemp("checkpoint") / "model"
            made[name] = make_checkpoint(model_class, small(model_class, **changes), folder)
        return made[name]

    return make
