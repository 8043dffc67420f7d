"""Quarantined units that are planned once more: what is then predicted counts as predicted, and nothing twice."""

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
from pipeline.runtime import RunFailed, RunOptions
from pipeline.runtime.driver import checks, run
from pipeline.runtime.driver.run import Summary, execute
from pipeline.runtime.driver.status import status
from pipeline.storage import Store
from tests.faults.slow_heads import Slow
from tests.sources.test_webdataset_source import tar

# Workers cannot import this file: what it defines travels with the task.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Capricious(Slow):
    """The real head on a bad day: units that the day does not like cannot be predicted."""

    def transform(self, medium):
        if isinstance(medium, str | bytes) and "bad day" in str(medium):
            raise ValueError("not today")
        return self.head.transform(medium)

    def encode(self, model, inputs):
        return self.head.encode(model, inputs)


@pytest.fixture
def bad_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs use the capricious head until the test ends or `checks.head_for` is put back."""
    head_for = checks.head_for

    def capricious(*given: Any) -> Any:
        head = Capricious(head_for(*given))
        del head.transform  # the class's own
        return head

    monkeypatch.setattr(checks, "head_for", capricious)


@pytest.fixture
def go(tmp_path: Path, cluster: None) -> Callable[..., Summary]:
    def once(task: str, checkpoint: Path, **asked: Any) -> Summary:
        given = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "max_quarantine": 1.0} | asked
        options = RunOptions(task=task, checkpoint=str(checkpoint), **given)
        return execute(options, console=Console(file=io.StringIO()))

    return once


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for part in sorted(folder.glob("*.parquet")) for row in pq.read_table(part).to_pylist()]


def ids(output: Path) -> list[str]:
    return sorted(row["id"] for row in rows(output / "predictions"))


def counts(summary: Summary) -> tuple[int, int, int]:
    return summary.units, summary.rows, summary.quarantined


def test_texts_that_could_not_be_predicted_are_once_the_day_is_better(go, checkpoints, tmp_path, bad_day, monkeypatch):
    model, folder = checkpoints(SEQUENCE), tmp_path / "in"
    folder.mkdir()
    texts = [f"text {number}{' of a bad day' if number % 5 == 2 else ''}" for number in range(40)]
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:20]))
    (folder / "b.txt").write_text("\n".join(texts[20:]))
    task = "text-classification"
    assert counts(go(task, model)) == (40, 32, 8)
    assert counts(go(task, model, retry_quarantined=True)) == (40, 32, 8)
    known = ids(tmp_path / "out")
    monkeypatch.undo()
    assert counts(go(task, model)) == (40, 32, 8), "nobody asked for a second chance"
    better = go(task, model, retry_quarantined=True)
    assert counts(better) == (40, 40, 0)
    assert better.segments == 3
    found = ids(tmp_path / "out")
    assert len(found) == len(set(found)) == 40
    assert set(known) < set(found)
    told = status(Store(str(tmp_path / "out")))
    assert (told.rows, told.quarantined, told.finished) == (40, 0, True)
    again = go(task, model, retry_quarantined=True)
    assert counts(again) == (40, 40, 0)
    assert again.segments == 3, "there is nothing left to plan"


def test_files_that_were_mended_are_read_as_they_are_now(go, checkpoint, write_images, tmp_path):
    folder = tmp_path / "in"
    write_images(folder, range(12), damaged=(3, 4, 9))
    assert counts(go("image-classification", checkpoint, shard_size=4)) == (12, 9, 3)
    write_images(folder, (3,))
    (folder / "0004.jpg").unlink()
    again = go("image-classification", checkpoint, shard_size=4, retry_quarantined=True)
    assert counts(again) == (12, 10, 2), "one was mended, one is gone, one is as bad as before"
    assert "0003.png" in ids(tmp_path / "out")
    assert {row["segment"] for row in rows(tmp_path / "out/predictions") if row["id"] == "0003.png"} == {1}


def test_a_container_that_was_mended_gives_all_its_units(go, checkpoints, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    whole = tar([(f"{number}.txt", f"text {number}".encode()) for number in range(30)])
    (folder / "a.tar").write_bytes(whole[:700])
    (folder / "b.tar").write_bytes(whole)
    first = go("text-classification", checkpoints(SEQUENCE))
    assert first.quarantined > 0
    (folder / "a.tar").write_bytes(whole)
    again = go("text-classification", checkpoints(SEQUENCE), retry_quarantined=True)
    assert counts(again) == (60, 60, 0)
    found = ids(tmp_path / "out")
    assert len(found) == len(set(found)) == 60


def test_the_share_that_may_be_quarantined_is_of_what_stands_there_now(go, checkpoint, write_images, tmp_path):
    folder = tmp_path / "in"
    write_images(folder, range(10), damaged=(3, 4))
    assert counts(go("image-classification", checkpoint)) == (10, 8, 2)
    write_images(folder, (3, 4))
    assert counts(go("image-classification", checkpoint, retry_quarantined=True, max_quarantine=0.25)) == (10, 10, 0)
    assert counts(go("image-classification", checkpoint, max_quarantine=0.0)) == (10, 10, 0)


def test_a_second_chance_that_is_cut_short_is_resumed(go, checkpoint, write_images, tmp_path, monkeypatch):
    folder = tmp_path / "in"
    write_images(folder, range(8), damaged=(1, 2, 3, 6))
    assert counts(go("image-classification", checkpoint, shard_size=1)) == (8, 4, 4)
    write_images(folder, (1, 2, 3, 6))
    with monkeypatch.context() as patch:
        patch.setattr(run, "PASSES", ())
        with pytest.raises(RunFailed, match="4 of 12 shards are left"):
            go("image-classification", checkpoint, shard_size=1, retry_quarantined=True)
    assert counts(go("image-classification", checkpoint, shard_size=1)) == (8, 8, 0), "without asking for it again"
    Image.open(folder / "0001.png").verify()
