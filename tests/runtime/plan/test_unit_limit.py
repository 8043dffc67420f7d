"""A limit may split a file: later plans take its remaining units, each once, for any shard size."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.heads import HeadOptions, head_for
from pipeline.reference.published_configs import SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.plan_files import pieces_in_row, read_plan_file
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.runtime.stages.load import read
from pipeline.runtime.stages.unit_reader import Loaded, Loader
from pipeline.sources import SourceOptions, discover, source_for
from pipeline.storage import Store

UNITS = 23  # a file


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small text classification checkpoint."""
    return make_checkpoint(SEQUENCE, small(SEQUENCE), tmp_path_factory.mktemp("checkpoint"))


def as_csv(texts: list[str]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows([["text"], *([text] for text in texts)])
    return file.getvalue().encode()


def as_parquet(texts: list[str]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), file, row_group_size=10)
    return file.getvalue()


def as_tar(texts: list[str]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for number, text in enumerate(texts):
            member = tarfile.TarInfo(f"{number}.txt")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return file.getvalue()


FILES: dict[str, Callable[[list[str]], bytes]] = {
    ".txt": lambda texts: "\n".join(texts).encode(),
    ".txt.gz": lambda texts: gzip.compress("\n".join(texts).encode()),
    ".jsonl": lambda texts: "".join(json.dumps({"text": text}) + "\n\n" for text in texts).encode(),
    ".csv": as_csv,
    ".parquet": as_parquet,
    ".tar": as_tar,
}


class Runs:
    """Successive plans of one INPUT in one OUTPUT, and the units they load."""

    def __init__(self, folder: Path, texts: Path) -> None:
        self.folder, self.output = folder / "in", Store(str(folder / "out"))
        self.folder.mkdir()
        self.head = head_for("text-classification", texts, HeadOptions())

    def plan(self, limit: int | None, shard_size: int, *, redo: bool = False) -> Plan:
        source = source_for("auto", SourceOptions(piece_units=shard_size))
        cut = ShardSizing(unit_bytes=1, shard_size=shard_size, limit=limit)
        return freeze_plan(self.output, source, lambda: discover(str(self.folder), source), cut, redo=redo)

    def loaded(self, plan: Plan) -> list[str]:
        """Return the ids of all units of the plan, as they are loaded."""
        inputs, source = Store(str(self.folder)), source_for("auto")
        loader = Loader(inputs=inputs, output=self.output, source=source, head=self.head)
        rows = [row for file in plan.files for row in read_plan_file(self.output, file.name, file.sha256).to_pylist()]
        found = []
        for row in rows:
            for unit in read(loader, pieces_in_row(row)):
                assert isinstance(unit, Loaded)
                found.append(unit.unit.id)
        return found


@pytest.fixture
def runs(tmp_path: Path, texts: Path) -> Runs:
    return Runs(tmp_path, texts)


@pytest.mark.parametrize("extension", FILES)
def test_larger_limit_continues_after_the_last_planned_unit(runs: Runs, extension: str) -> None:
    for number in range(2):
        data = FILES[extension]([f"text {number} {at}" for at in range(UNITS)])
        (runs.folder / f"{number}{extension}").write_bytes(data)
    for limit, shard_size in ((5, 4), (5, 4), (9, 3), (9 + UNITS, 50), (2 * UNITS - 1, 7)):
        found = runs.loaded(runs.plan(limit, shard_size))
        assert len(set(found)) == len(found) == limit
    plan = runs.plan(None, 6)
    found = runs.loaded(plan)
    assert len(set(found)) == len(found) == 2 * UNITS
    assert runs.plan(None, 6).segments == plan.segments


def test_limit_at_the_end_of_a_file_plans_all_of_it(runs: Runs) -> None:
    (runs.folder / "a.jsonl").write_bytes(FILES[".jsonl"](["one", "two"]))
    plan = runs.plan(2, 10)
    assert runs.plan(None, 10).segments == plan.segments
    (runs.folder / "b.jsonl").write_bytes(FILES[".jsonl"](["three"]))
    assert runs.loaded(runs.plan(None, 10))[2:] == ["b.jsonl#0"]


def test_partly_planned_file_that_changed_is_planned_anew(runs: Runs) -> None:
    path = runs.folder / "a.parquet"
    path.write_bytes(FILES[".parquet"]([f"text {at}" for at in range(UNITS)]))
    runs.plan(5, 4)
    path.write_bytes(FILES[".parquet"](["one", "two", "three"]))
    left = runs.plan(None, 4)
    assert (left.changed, left.units) == (1, 5)
    assert runs.plan(7, 4, redo=True).units == 7
    assert runs.plan(None, 4).units == 8
    path.write_bytes(FILES[".parquet"]([f"text {at}" for at in range(UNITS)]))
    assert runs.plan(None, 4, redo=True).units == 8 + UNITS, "what was planned of this version lies before the other"


def test_changed_inputs_are_counted_when_the_limit_is_reached(runs: Runs) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (runs.folder / name).write_text("one")
    runs.plan(2, 4)
    (runs.folder / "b.txt").write_text("two")
    assert runs.plan(2, 4).changed == 1
