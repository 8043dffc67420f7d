"""A changed line in the middle of a large local file is seen; plans of earlier releases are continued."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.plan_files import pieces_in_row, read_plan_file
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.sources import SourceOptions, discover, source_for
from pipeline.storage import Store
from pipeline.storage.local_file import FULL_DIGEST_MAX_BYTES, LocalFile

LINE = b"a line of a large text\n"
LINES = 2 * FULL_DIGEST_MAX_BYTES // len(LINE)


def plan(folder: Path, limit: int | None = None, *, redo: bool = False) -> Plan:
    """Plan the texts in `in`."""
    source = source_for("text", SourceOptions(piece_units=100_000))
    cut = ShardSizing(unit_bytes=1, limit=limit)
    discovered = lambda: discover(str(folder / "in"), source)  # noqa: E731
    return freeze_plan(Store(str(folder / "out")), source, discovered, cut, redo=redo)


def plan_by_an_earlier_release(folder: Path, limit: int | None = None) -> Plan:
    """Plan the texts in `in`, with versions that have no modification time."""
    version = LocalFile.version

    def without_time(file: LocalFile) -> str:
        return "-".join(version(file).split("-")[:2])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalFile, "version", without_time)
        return plan(folder, limit)


def change_a_line(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(LINES // 2 * len(LINE))
        file.write(LINE.upper())


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A large text next to a small one."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/large.txt").write_bytes(LINE * LINES)
    (tmp_path / "in/small.txt").write_bytes(LINE)
    return tmp_path / "in/large.txt"


def test_changed_line_of_a_large_file_is_counted_and_planned_again_on_request(tmp_path: Path, large: Path) -> None:
    plan(tmp_path)
    change_a_line(large)
    left = plan(tmp_path)
    assert (left.changed, len(left.segments)) == (1, 1)
    assert len(plan(tmp_path, redo=True).segments) == 2


def test_plan_of_an_earlier_release_has_no_changed_inputs(tmp_path: Path, large: Path) -> None:
    earlier = plan_by_an_earlier_release(tmp_path)
    later = plan(tmp_path, redo=True)
    assert (later.changed, later.segments) == (0, earlier.segments)
    large.write_bytes(LINE * LINES + LINE)
    assert plan(tmp_path).changed == 1


def test_limit_of_an_earlier_release_is_continued_after_its_last_unit(tmp_path: Path, large: Path) -> None:
    plan_by_an_earlier_release(tmp_path, limit=5)
    later = plan(tmp_path)
    output = Store(str(tmp_path / "out"))
    rows = [row for file in later.files for row in read_plan_file(output, file.name, file.sha256).to_pylist()]
    pieces = [piece for row in rows for piece in pieces_in_row(row) if piece.key == large.name]
    assert (pieces[0].most, pieces[1].skip) == (5, 5)
    assert plan(tmp_path).segments == later.segments
    assert plan(tmp_path).changed == 0
