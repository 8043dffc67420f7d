"""--retry-quarantined: units that succeed in a retry count as predicted, and nothing is predicted twice."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from ray import cloudpickle
from rich.console import Console

from pipeline.reference.published_configs import SEQUENCE
from pipeline.runtime.driver import checks, run
from pipeline.runtime.driver.run import Summary, execute
from pipeline.runtime.driver.status import status
from pipeline.runtime.errors import RunFailed
from pipeline.runtime.options import RunOptions
from pipeline.storage import Store
from tests.faults.slow_heads import Slow
from tests.sources.test_webdataset_source import tar

# Workers cannot import this file, so its classes are pickled by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class FailOnMarkedTexts(Slow):
    """The real head, but texts that contain `fail now` cannot be transformed."""

    def transform(self, medium):
        if isinstance(medium, str | bytes) and "fail now" in str(medium):
            raise ValueError("marked to fail")
        return self.head.transform(medium)

    def encode(self, model, inputs):
        return self.head.encode(model, inputs)


@pytest.fixture
def failing_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make runs use `FailOnMarkedTexts` until the test ends or undoes the patch."""
    head_for = checks.head_for

    def failing(*arguments: Any) -> Any:
        return FailOnMarkedTexts(head_for(*arguments))

    monkeypatch.setattr(checks, "head_for", failing)


@pytest.fixture
def run_once(tmp_path: Path, backend: None) -> Callable[..., Summary]:
    def once(task: str, checkpoint: Path, **options: Any) -> Summary:
        places = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "max_quarantine": 1.0} | options
        run_options = RunOptions(task=task, checkpoint=str(checkpoint), **places)
        return execute(run_options, console=Console(file=io.StringIO()))

    return once


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for part in sorted(folder.glob("*.parquet")) for row in pq.read_table(part).to_pylist()]


def ids(output: Path) -> list[str]:
    return sorted(row["id"] for row in rows(output / "predictions"))


def counts(summary: Summary) -> tuple[int, int, int]:
    return summary.units, summary.rows, summary.quarantined


def test_retried_texts_are_predicted_once_the_fault_is_gone(run_once, checkpoints, tmp_path, failing_head, monkeypatch):
    model, folder = checkpoints(SEQUENCE), tmp_path / "in"
    folder.mkdir()
    texts = [f"text {number}{' fail now' if number % 5 == 2 else ''}" for number in range(40)]
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:20]))
    (folder / "b.txt").write_text("\n".join(texts[20:]))
    task = "text-classification"
    assert counts(run_once(task, model)) == (40, 32, 8)
    assert counts(run_once(task, model, retry_quarantined=True)) == (40, 32, 8)
    known = ids(tmp_path / "out")
    monkeypatch.undo()
    assert counts(run_once(task, model)) == (40, 32, 8), "without --retry-quarantined nothing is retried"
    retried = run_once(task, model, retry_quarantined=True)
    assert counts(retried) == (40, 40, 0)
    assert retried.segments == 3
    found = ids(tmp_path / "out")
    assert len(found) == len(set(found)) == 40
    assert set(known) < set(found)
    known_status = status(Store(str(tmp_path / "out")))
    assert (known_status.rows, known_status.quarantined, known_status.finished) == (40, 0, True)
    again = run_once(task, model, retry_quarantined=True)
    assert counts(again) == (40, 40, 0)
    assert again.segments == 3, "there is nothing left to plan"


def test_repaired_files_are_read_again_in_a_retry(run_once, checkpoint, write_images, tmp_path):
    folder = tmp_path / "in"
    write_images(folder, range(12), damaged=(3, 4, 9))
    assert counts(run_once("image-classification", checkpoint, shard_size=4)) == (12, 9, 3)
    write_images(folder, (3,))
    (folder / "0004.jpg").unlink()
    again = run_once("image-classification", checkpoint, shard_size=4, retry_quarantined=True)
    assert counts(again) == (12, 10, 2), "one was repaired, one is gone, one is still damaged"
    assert "0003.png" in ids(tmp_path / "out")
    assert {row["segment"] for row in rows(tmp_path / "out/predictions") if row["id"] == "0003.png"} == {1}


def test_repaired_archive_gives_all_its_units_in_a_retry(run_once, checkpoints, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    whole = tar([(f"{number}.txt", f"text {number}".encode()) for number in range(30)])
    (folder / "a.tar").write_bytes(whole[:700])
    (folder / "b.tar").write_bytes(whole)
    first = run_once("text-classification", checkpoints(SEQUENCE))
    assert first.quarantined > 0
    (folder / "a.tar").write_bytes(whole)
    again = run_once("text-classification", checkpoints(SEQUENCE), retry_quarantined=True)
    assert counts(again) == (60, 60, 0)
    found = ids(tmp_path / "out")
    assert len(found) == len(set(found)) == 60


def test_max_quarantine_counts_only_units_still_quarantined(run_once, checkpoint, write_images, tmp_path):
    folder = tmp_path / "in"
    write_images(folder, range(10), damaged=(3, 4))
    assert counts(run_once("image-classification", checkpoint)) == (10, 8, 2)
    write_images(folder, (3, 4))
    assert counts(run_once("image-classification", checkpoint, retry_quarantined=True, max_quarantine=0.25)) == (
        10,
        10,
        0,
    )
    assert counts(run_once("image-classification", checkpoint, max_quarantine=0.0)) == (10, 10, 0)


def test_interrupted_retry_is_resumed_by_the_plain_command(run_once, checkpoint, write_images, tmp_path, monkeypatch):
    folder = tmp_path / "in"
    write_images(folder, range(8), damaged=(1, 2, 3, 6))
    assert counts(run_once("image-classification", checkpoint, shard_size=1)) == (8, 4, 4)
    write_images(folder, (1, 2, 3, 6))
    with monkeypatch.context() as patch:
        patch.setattr(run, "PASSES", ())
        with pytest.raises(RunFailed, match="4 of 12 shards are left"):
            run_once("image-classification", checkpoint, shard_size=1, retry_quarantined=True)
    assert counts(run_once("image-classification", checkpoint, shard_size=1)) == (8, 8, 0), (
        "without --retry-quarantined"
    )
    Image.open(folder / "0001.png").verify()
