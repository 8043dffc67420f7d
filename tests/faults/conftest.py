"""Fixtures for fault tests: run bad inputs or kill processes, and collect what OUTPUT holds afterwards."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipeline.runtime.driver import checks
from pipeline.runtime.driver.run import Summary, execute
from pipeline.runtime.options import RunOptions
from pipeline.storage import Store
from tests.faults.killed_runs import Job, Points
from tests.faults.slow_heads import Slow


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The summary of a run, and every row and quarantined unit by its id."""

    summary: Summary
    rows: dict[str, dict[str, Any]]
    quarantined: dict[str, dict[str, Any]]

    def predicted(self, key: str) -> list[dict[str, Any]]:
        """Return the rows of one file, in plan order. Keys must not contain `#`."""
        return [row for name, row in self.rows.items() if name.partition("#")[0] == key]

    def reasons(self, key: str) -> dict[str, str]:
        """Return the quarantine messages of one file by unit id."""
        return {name: unit["message"] for name, unit in self.quarantined.items() if name.partition("#")[0] == key}


_FOR_PROGRAMMERS = re.compile(
    r"Traceback|File \"|object at|0x[0-9a-f]{8}"  # stack traces and addresses
    r"|b'(\\x|[^']){30,}"  # bytes literals
    r"|^[\w.]*(Error|Exception|Interrupt)?[:(){}\[\]'\s]*$"  # an exception without a message
)


def assert_understandable(unit: dict[str, Any]) -> None:
    """Assert that the reason of a quarantined unit is one readable line without traces, addresses or raw bytes."""
    message = unit["message"]
    assert unit["stage"] in ("load", "transform", "predict", "write")
    assert unit["error"].isidentifier()
    assert unit["attempts"] > 0
    assert message == message.strip()
    assert message.isprintable(), message
    assert 10 <= len(message) <= 500
    assert not _FOR_PROGRAMMERS.search(message), message


def outcome(summary: Summary) -> Outcome:
    """Read OUTPUT and assert that every unit is there once, as a row or in quarantine."""
    output = Store(summary.output)
    found: dict[str, list[dict[str, Any]]] = {}
    for folder in ("predictions/", "quarantine/"):
        tables = [pq.read_table(io.BytesIO(output.read(key))) for key in output.keys(folder)]
        found[folder] = [row for table in tables for row in table.to_pylist()]
    rows, quarantined = ({row["id"]: row for row in units} for units in found.values())
    assert summary.units == summary.rows + summary.quarantined
    assert (summary.rows, summary.quarantined) == (len(found["predictions/"]), len(found["quarantine/"]))
    assert len(rows.keys() | quarantined.keys()) == summary.units, "no id is there twice"
    for unit in quarantined.values():
        assert_understandable(unit)
        assert unit["uri"].startswith(("/", "s3://")) or "is a URI: only files in INPUT are read" in unit["message"]
    return Outcome(summary=summary, rows=rows, quarantined=quarantined)


@pytest.fixture
def run(tmp_path: Path, backend: None) -> Callable[..., Outcome]:
    """`run(task, checkpoint, source, **options)`: run to the end, however many units are quarantined."""

    def run_to_end(task: str, checkpoint: Path, source: str | Path, **options: Any) -> Outcome:
        values = {"output": str(tmp_path / "out"), "max_quarantine": 1.0} | options
        run_options = RunOptions(task=task, input=str(source), checkpoint=str(checkpoint), **values)
        return outcome(execute(run_options, console=Console(file=io.StringIO())))

    return run_to_end


@pytest.fixture
def options(tmp_path: Path, checkpoint: Path) -> RunOptions:
    """Options of a run over the images in `in`, which the test writes: shards of two, two replicas."""
    return RunOptions(
        task="image-classification",
        input=str(tmp_path / "in"),
        output=str(tmp_path / "out"),
        checkpoint=str(checkpoint),
        shard_size=2,
        replicas=2,
    )


@pytest.fixture
def wrap_head(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Slow]], None]:
    """`wrap_head(Slow)`: runs of this process use the real head inside that wrapper."""
    head_for = checks.head_for

    def wrap(kind: type[Slow]) -> None:
        monkeypatch.setattr(checks, "head_for", lambda *values: kind(head_for(*values)))

    return wrap


@pytest.fixture
def job(tmp_path: Path, checkpoint: Path, write_images: Callable[..., None]) -> Callable[..., Job]:
    """`job(24, damaged=(0, 3))`: a run over that many images in shards of `shard_size`, on disk or in S3."""

    def make(count: int, damaged: Collection[int], *, shard_size: int = 2, s3: Any = None) -> Job:
        folder = tmp_path / "in"
        write_images(folder, range(count), damaged)
        source, output = str(folder), str(tmp_path / "out")
        if s3 is not None:
            source, output = s3.bucket("images"), s3.bucket("labels") + "/run one"
            for path in folder.iterdir():
                s3.client.put_object(Bucket=source.removeprefix("s3://"), Key=path.name, Body=path.read_bytes())
        values = {"input": source, "output": output, "checkpoint": str(checkpoint), "shard_size": shard_size}
        options = RunOptions(task="image-classification", max_quarantine=1.0, **values)
        names = sorted(path.name for path in folder.iterdir())
        bad = [names[number] for number in damaged]
        good = [name for name in names if name not in bad]
        return Job(options=options, points=Points(tmp_path / "points"), good=good, bad=bad)

    return make


@pytest.fixture(params=["disk", "s3"])
def s3_or_none(request: pytest.FixtureRequest) -> Any:
    """The S3 server, or None for a disk."""
    return request.getfixturevalue("s3") if request.param == "s3" else None


@pytest.fixture
def secrets_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside OUTPUT for inputs and files that contain secrets."""
    return tmp_path_factory.mktemp("elsewhere")
