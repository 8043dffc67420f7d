"""Loading in a sandbox: the same units, and harmful ones do not affect others."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.heads import Head, HeadOptions, head_for
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.runtime.stages import isolated_reader, unit_reader
from pipeline.runtime.stages.load import load
from pipeline.runtime.stages.shard_format import KEPT_PREFIX, unpack, unpack_arrays
from pipeline.runtime.stages.unit_reader import Loader
from pipeline.sandbox import ResourceLimits
from pipeline.sources import IMAGES, PARQUET, VIDEO, WEBDATASET, Piece, Source, SourceOptions, discover
from pipeline.storage import Store
from tests import harmful_units
from tests.sample_videos import make_video

LIMITS = ResourceLimits(60.0, 1 << 30)


@pytest.fixture
def head(checkpoint: Path) -> Head:
    return head_for("image-classification", checkpoint, HeadOptions())


@pytest.fixture
def put(write_images: Any, tmp_path: Path) -> Any:
    """`put(*names)`: images 0000 to 0019, one damaged, and one under each of the names."""

    def put(*names: str) -> Path:
        folder = tmp_path / "in"
        write_images(folder, range(20), damaged=(5,))
        for name in names:
            (folder / name).write_bytes((folder / "0001.png").read_bytes())
        return folder

    return put


def loaded(folder: Path, head: Any, source: Source = IMAGES, **changes: Any) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Units and quarantined ones of a folder as one shard."""
    values = {"inputs": Store(str(folder)), "output": Store(f"{folder}-out"), "source": source, "head": head}
    loader = Loader(**(values | {"limits": LIMITS} | changes))  # type: ignore[arg-type]
    cut = ShardSizing(unit_bytes=1, shard_size=10_000)
    plan = freeze_plan(loader.output, source, lambda: discover(str(folder), source), cut, kept=loader.kept)
    (file,) = plan.files
    row = pa.table({"file": [file.name], "sha256": [file.sha256], "row": [0], "shard": [0]})
    units, quarantined, scalars = unpack(load(row, loader=loader))
    assert scalars["fatal"] == "", scalars["fatal"]
    return units, quarantined.to_pylist()


def ids(units: pa.Table) -> list[str]:
    return units.column("id").to_pylist()


def assert_same(one: tuple[pa.Table, list[Any]], other: tuple[pa.Table, list[Any]]) -> None:
    """Units equal in every column, and quarantined ones too."""
    assert one[0].schema.equals(other[0].schema)
    for name in set(one[0].column_names) - set(unpack_arrays(one[0])):
        assert one[0].column(name).to_pylist() == other[0].column(name).to_pylist()
    for name, arrays in unpack_arrays(one[0]).items():
        for first, second in zip(arrays, unpack_arrays(other[0])[name], strict=True):
            np.testing.assert_array_equal(first, second, strict=True)
    assert one[1] == other[1]


def test_units_are_the_same_as_without_a_sandbox(put: Any, head: Head) -> None:
    folder = put()
    found = loaded(folder, head)
    assert found[0].num_rows == 19
    assert_same(found, loaded(folder, head, limits=None))


def test_kept_columns_and_texts_of_every_length_are_the_same(tmp_path: Path) -> None:
    class Words:
        """A head without a checkpoint: arrays of several types, shapes and sizes."""

        def transform(self, medium: str) -> dict[str, np.ndarray]:
            if "bad" in medium:
                raise ValueError("a bad word")
            letters = np.frombuffer(medium.encode(), np.uint8)
            return {"letters": letters, "length": np.array([len(medium)]), "grid": np.full((2, 3), letters[0] / 7)}

    texts = ["word " * (number * number % 311 + 1) for number in range(600)]
    texts[300] = "bad"
    times = pa.array([number * 10**9 + 1 for number in range(600)], pa.timestamp("ns"))
    dates = [datetime(2024, 1, 1, tzinfo=UTC)] * 600
    table = pa.table(
        {"text": texts, "number": range(600), "time": times, "date": dates, "more": [{"a": [1, None]}] * 600}
    )
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in/a.parquet")
    source = PARQUET.configured(SourceOptions(keep=("number", "time", "date", "more"), piece_units=150))
    kept = table.schema.empty_table().select(["number", "time", "date", "more"]).schema
    found = loaded(tmp_path / "in", Words(), source, kept=kept)
    assert (found[0].num_rows, len(found[1])) == (599, 1)
    assert found[0].column(KEPT_PREFIX + "time").combine_chunks().equals(pa.concat_arrays([times[:300], times[301:]]))
    assert_same(found, loaded(tmp_path / "in", Words(), source, kept=kept, limits=None))


def test_harmful_small_file_does_not_affect_others_of_its_call(put: Any, head: Head) -> None:
    folder = put("0003-crash.png", "0004-hog.png")
    assert max(map(len, _groups(folder, threads=1))) == 6
    units, quarantined = loaded(folder, head, harmful_units.HARMFUL_IMAGES, threads=1)
    assert [(unit["id"], unit["error"], unit["attempts"]) for unit in quarantined] == [
        ("0003-crash.png", "Crashed", 2),
        ("0004-hog.png", "MemoryError", 2),
        ("0005.png", "BadMedium", 1),  # not affected by the crash of its neighbour
    ]
    assert units.num_rows == 19


def _groups(folder: Path, threads: int) -> list[Any]:
    store = Store(str(folder))
    pieces = [piece for entry in store.entries() for piece in IMAGES.pieces(store, entry)]
    groups = list(isolated_reader.group_small_files([*pieces, replace(pieces[0], size=1 << 20), *pieces[:3]], threads))
    assert [piece.key for group in groups for piece in group] == [
        piece.key for piece in [*pieces, pieces[0], *pieces[:3]]
    ]
    assert [replace(pieces[0], size=1 << 20)] in groups, "a large one is read alone"
    return groups


def _tar(path: Path, names: Iterable[str], image_bytes: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name in names:
            member = tarfile.TarInfo(f"{name}.png")
            member.size = len(image_bytes)
            archive.addfile(member, io.BytesIO(image_bytes))


def test_crash_of_the_parser_quarantines_the_rest_of_an_archive(put: Any, head: Head, tmp_path: Path) -> None:
    _tar(tmp_path / "tars/x.tar", ["a", "b", "before-crash", "d"], (put() / "0001.png").read_bytes())
    _tar(tmp_path / "tars/y.tar", ["a", "b"], (put() / "0001.png").read_bytes())
    source = harmful_units.HARMFUL_TAR.configured(SourceOptions(medium="image"))
    units, quarantined = loaded(tmp_path / "tars", head, source)
    assert ids(units) == ["x.tar#a", "x.tar#b", "y.tar#a", "y.tar#b"]
    assert [(unit["id"], unit["error"]) for unit in quarantined] == [("x.tar#0+2", "Crashed")]


def test_crash_in_a_table_quarantines_every_later_row(put: Any, head: Head, tmp_path: Path) -> None:
    image_bytes = (put() / "0001.png").read_bytes()
    names = ["before-crash" if number == 5 else f"n{number}" for number in range(50)]
    (tmp_path / "tables").mkdir()
    pq.write_table(pa.table({"image": [image_bytes] * 50, "name": names}), tmp_path / "tables/a.parquet")
    source = harmful_units.HARMFUL_PARQUET.configured(SourceOptions(medium="image", id_column="name"))
    units, quarantined = loaded(tmp_path / "tables", head, source)
    assert ids(units) == [f"n{number}" for number in range(5)]
    assert [unit["id"] for unit in quarantined] == [f"a.parquet#{number}" for number in range(5, 50)]
    assert {(unit["error"], unit["attempts"]) for unit in quarantined} == {("Crashed", 2)}


class Pair:
    """A head of pairs of frames as they are."""

    def transform(self, medium: Any) -> dict[str, np.ndarray]:
        return {"frames": medium.frames}


def test_video_that_is_much_longer_than_its_header_says_is_cut(tmp_path: Path) -> None:
    """Its last frame is long after the others: at the given frames per second, there are many pairs in between."""
    (tmp_path / "videos").mkdir()
    path = make_video(tmp_path / "videos/a.mkv", times=[*(number / 25 for number in range(25)), 3500])
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88")  # the element of the length: a double, in milliseconds
    assert struct.unpack_from(">d", data, at + 3)[0] > 3_500_000
    struct.pack_into(">d", data, at + 3, 1000.0)
    path.write_bytes(data)
    source = VIDEO.configured(SourceOptions(medium="frame_pair", fps=25.0))
    units, (beyond,) = loaded(tmp_path / "videos", Pair(), source, limits=None)
    pair = 2 * 48 * 64 * 3
    assert len(units) == unit_reader.MIN_PIECE_BUDGET_BYTES // pair + 1
    assert (beyond["error"], beyond["stage"]) == ("TooMuch", "load")
    assert "its units take more than 64 MiB" in beyond["message"]
    assert beyond["id"] not in ids(units)


@pytest.mark.parametrize("limits", [None, LIMITS])
def test_many_small_images_in_one_archive_are_all_read(tmp_path: Path, limits: ResourceLimits | None) -> None:
    """Their arrays take hundreds of times their bytes."""

    class Enlarged:
        def transform(self, medium: np.ndarray) -> dict[str, np.ndarray]:
            return {"image": np.full((3, 224, 224), medium[0, 0, 0])}

    drawn = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 30, 30)).save(drawn, "PNG")
    _tar(tmp_path / "tars/x.tar", [f"{number:05d}" for number in range(600)], drawn.getvalue())
    source = WEBDATASET.configured(SourceOptions(medium="image"))
    units, quarantined = loaded(tmp_path / "tars", Enlarged(), source, limits=limits)
    assert (len(units), quarantined) == (600, [])


def test_compressed_file_has_time_to_be_read_from_its_beginning() -> None:
    piece = Piece(
        key="logs.jsonl.gz", version="1", size=10 * isolated_reader.MIN_BYTES_PER_SECOND, begin=1 << 30, end=2 << 30
    )
    assert isolated_reader.seconds_per_unit(LIMITS, piece) == LIMITS.seconds + 10
    assert isolated_reader.seconds_per_unit(LIMITS, replace(piece, key="logs.jsonl")) == LIMITS.seconds


def test_search_for_fatal_units_is_bounded(
    put: Any, head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated_reader, "MAX_FATAL_UNITS", 2)
    image_bytes = (put() / "0001.png").read_bytes()
    names = [f"n{number}" if number < 3 else f"crash{number}" for number in range(30)]
    (tmp_path / "tables").mkdir()
    pq.write_table(pa.table({"image": [image_bytes] * 30, "name": names}), tmp_path / "tables/a.parquet")
    source = harmful_units.HARMFUL_PARQUET.configured(SourceOptions(medium="image", id_column="name"))
    units, quarantined = loaded(tmp_path / "tables", head, source)
    assert (units.num_rows, len(quarantined)) == (3, 27)
    assert [unit["id"] for unit in quarantined[:4]] == ["crash3", "crash4", "a.parquet#5", "a.parquet#6"]


def test_transient_failures_are_retried_and_leave_no_trace(put: Any, head: Head, tmp_path: Path) -> None:
    folder = put("busy.png", "full.png")
    (tmp_path / "counts").mkdir()
    units, quarantined = loaded(folder, head, harmful_units.Passing(counts=str(tmp_path / "counts")))
    assert {"busy.png", "full.png"} < set(ids(units))
    assert [unit["id"] for unit in quarantined] == ["0005.png"]
    tries = {path.name: path.stat().st_size for path in (tmp_path / "counts").iterdir()}
    assert (tries["busy.png"], tries["full.png"], tries["0000.jpg"]) == (2, 3, 1)


def test_lost_access_in_the_sandbox_ends_the_run(put: Any, head: Head, tmp_path: Path) -> None:
    (tmp_path / "counts").mkdir()
    source = harmful_units.Passing(counts=str(tmp_path / "counts"))
    with pytest.raises(AssertionError, match="ExpiredToken") as fatal:
        loaded(put("denied.png"), head, source)
    assert "hunter2" not in json.dumps(str(fatal.value))


def test_abandoned_shard_is_not_read(put: Any, head: Head, tmp_path: Path) -> None:
    folder = put("0010-crash.png")
    units, quarantined = loaded(folder, head, harmful_units.HARMFUL_IMAGES, abandoned=True)
    assert (units.num_rows, len(quarantined)) == (0, 21)
    assert {unit["error"] for unit in quarantined} == {"GivenUp"}
