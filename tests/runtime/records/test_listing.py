"""OUTPUT names every entry of INPUT that was left out, once, however often INPUT was listed."""

import io
import json
from collections import deque
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.runtime.records import listing as listing_module
from pipeline.runtime.records.listing import (
    LISTING,
    ListedInputs,
    left_out_lines,
    put_listing,
    read_listing,
)
from pipeline.sinks.ownership import RUN_FILE, OutputLost
from pipeline.sources import Listing, Source, SourceOptions, discover, source_for
from pipeline.storage import Store

RUN = "aaaa0000"


@pytest.fixture
def output(tmp_path: Path) -> Store:
    """Return an OUTPUT that belongs to the run aaaa0000."""
    store = Store(str(tmp_path / "out"))
    store.put(RUN_FILE, json.dumps({"run": RUN}).encode())
    return store


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Return a folder with a text, an empty text, a header without rows, an image and a hidden file."""
    folder = tmp_path / "in"
    folder.mkdir()
    contents = {"a.txt": "one", "empty.txt": "", "header.csv": "text\n", "b.png": "", ".c.txt": "c", "d.dat": "d"}
    for name, content in contents.items():
        (folder / name).write_text(content)
    return folder


def text_source() -> Source:
    return source_for("auto", SourceOptions(medium="text"))


def plan(output: Store, inputs: Path, limit: int | None = None) -> ListedInputs:
    """Plan as a driver does and record the listing."""
    source = text_source()
    sizing = ShardSizing(unit_bytes=1, limit=limit)
    found = freeze_plan(output, source, lambda: discover(str(inputs), source), sizing).listing
    assert found is not None
    return put_listing(output, RUN, found)


def recorded(output: Store) -> dict[str, str]:
    tables = [pq.read_table(io.BytesIO(output.read(key))) for key in output.keys("_run/left_out/")]
    rows = pa.concat_tables(tables).to_pylist() if tables else []
    assert len({row["key"] for row in rows}) == len(rows), "each entry once"
    return {row["key"]: row["reason"] for row in rows}


def test_each_entry_is_read_or_left_out_and_planning_again_counts_it_once(output: Store, inputs: Path) -> None:
    for _ in range(3):
        found = plan(output, inputs)
        assert (found.listed, found.read, found.complete) == (6, 1, True)
        assert recorded(output) == {
            ".c.txt": "hidden",
            "b.png": "not the task's medium",
            "d.dat": "unknown kind",
            "empty.txt": "no units in the file",
            "header.csv": "no units in the file",
        }
        assert read_listing(output) == found


def test_an_unchanged_listing_writes_nothing_and_a_changed_one_replaces_the_record(output: Store, inputs: Path) -> None:
    first = plan(output, inputs)
    assert plan(output, inputs).files == first.files
    (inputs / "d.dat").unlink()
    second = plan(output, inputs)
    assert (second.listed, sorted(recorded(output))) == (5, [".c.txt", "b.png", "empty.txt", "header.csv"])
    assert list(output.keys("_run/left_out/")) == list(second.files)
    assert not set(first.files) & set(second.files)


def test_a_listing_that_a_limit_ends_says_so(output: Store, inputs: Path) -> None:
    (inputs / "z.txt").write_text("two")
    found = plan(output, inputs, limit=1)
    assert not found.complete
    assert any("--limit" in line for line in left_out_lines(output, found))
    assert plan(output, inputs).complete


def test_a_long_record_has_several_files(output: Store, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_module, "FILE_ENTRIES", 2)
    assert len(plan(output, inputs).files) == 3
    assert len(recorded(output)) == 5


def test_nothing_is_recorded_in_the_output_of_another_run(output: Store, inputs: Path) -> None:
    found = discover(str(inputs), text_source())
    deque(found.entries, maxlen=0)
    with pytest.raises(OutputLost, match="bbbb0000"):
        put_listing(output, "bbbb0000", found)
    assert list(output.keys()) == [RUN_FILE]


def test_output_of_an_earlier_version_has_no_record(output: Store) -> None:
    assert read_listing(output) is None
    assert left_out_lines(output, ListedInputs()) == []


def test_everything_read_is_recorded_as_such(output: Store, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    found = discover(str(tmp_path / "a.txt"), text_source())
    deque(found.entries, maxlen=0)
    assert isinstance(found, Listing)
    assert put_listing(output, RUN, found).listed == 1
    assert list(output.keys()) == [LISTING, RUN_FILE]
