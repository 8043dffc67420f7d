"""Videos in archives and tables: the same pairs and clips as of video files, each once, however they are planned."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.media import BadMedium, ClipSpec
from pipeline.runtime.plan.plan_files import pieces_in_row, read_plan_file
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.runtime.stages.isolated_reader import quarantine_rest
from pipeline.runtime.stages.unit_reader import Loader
from pipeline.sources import Unit, discover, source_for
from pipeline.sources import webdataset_source as webdataset_module
from pipeline.sources.records.record_videos import MARK
from pipeline.sources.source import Piece, SourceOptions
from pipeline.storage import AccessError, Missing, Store
from tests.decoded_units import decode_all
from tests.sample_videos import make_video, number_of
from tests.sources.test_tar_links import SYM, archive_of
from tests.sources.test_webdataset_source import tar

UnitsOf = Callable[..., list[Unit]]


def unchanged(frame: np.ndarray) -> np.ndarray:
    return frame


CLIP = ClipSpec(frames=4, fps=10, samples=3200, sample_rate=8000, reduce=unchanged)
PAIRS: dict[str, Any] = {"medium": "frame_pair"}
KINDS: dict[str, dict[str, Any]] = {
    "pairs": PAIRS,
    "pairs at a rate": PAIRS | {"fps": 8.0},
    "clips": {"medium": "clip", "clip_spec": CLIP},
}


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two videos of half a second, the second with a later first number."""
    folder = tmp_path_factory.mktemp("loose")
    make_video(folder / "0.mp4", 0.5, rate=20, b_frames=2, audio_rate=8000)
    make_video(folder / "1.mkv", 0.5, rate=12, size=(48, 32))
    return folder


@pytest.fixture(scope="module")
def videos(loose: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(loose.iterdir())]


def structs(videos: list[bytes]) -> pa.Array:
    """Return a column as `datasets` writes it."""
    return pa.array([{"bytes": video, "path": None} for video in videos])


def write_tar(folder: Path, videos: list[bytes]) -> None:
    (folder / "a.tar").write_bytes(samples(videos))


def write_tgz(folder: Path, videos: list[bytes]) -> None:
    (folder / "a.tgz").write_bytes(gzip.compress(samples(videos)))


def write_links(folder: Path, videos: list[bytes]) -> None:
    names = [(f"v/.{number}", video) for number, video in enumerate(videos)]
    links = [(f"{number}.mp4", (SYM, f"v/.{number}")) for number in range(len(videos))]
    (folder / "a.tar").write_bytes(archive_of([*links, *names]))


def write_parquet(folder: Path, videos: list[bytes]) -> None:
    pq.write_table(pa.table({"id": ["x", "y"], "video": structs(videos)}), folder / "a.parquet")


def write_bytes_parquet(folder: Path, videos: list[bytes]) -> None:
    pq.write_table(pa.table({"clip": videos}), folder / "a.parquet", row_group_size=1)


def write_dataset(folder: Path, videos: list[bytes]) -> None:
    datasets.Dataset.from_dict({"video": [{"bytes": video, "path": None} for video in videos]}).save_to_disk(folder)


def write_jsonl(folder: Path, videos: list[bytes]) -> None:
    for number, video in enumerate(videos):
        (folder / f"{number}.bin").write_bytes(video)
    (folder / "a.jsonl").write_text("".join(json.dumps({"clip": f"{number}.bin"}) + "\n" for number in range(2)))


def write_csv(folder: Path, videos: list[bytes]) -> None:
    write_jsonl(folder, videos)
    (folder / "a.jsonl").rename(folder / "a.csv")
    (folder / "a.csv").write_text('clip,caption\n"0.bin","a\nb"\n1.bin,c\n')


def samples(videos: list[bytes]) -> bytes:
    members = [((f"{number}.mp4", video), (f"{number}.txt", b"")) for number, video in enumerate(videos)]
    return tar([member for sample in members for member in sample])


WRITERS: dict[str, tuple[Callable[[Path, list[bytes]], None], str, str | None, list[str]]] = {
    "tar": (write_tar, "webdataset", None, ["a.tar#0", "a.tar#1"]),
    "tgz": (write_tgz, "webdataset", "mp4", ["a.tgz#0", "a.tgz#1"]),
    "links": (write_links, "webdataset", "mp4", ["a.tar#0", "a.tar#1"]),
    "parquet": (write_parquet, "parquet", None, ["a.parquet#0", "a.parquet#1"]),
    "parquet of bytes": (write_bytes_parquet, "parquet", "clip", ["a.parquet#0", "a.parquet#1"]),
    "dataset": (write_dataset, "dataset", None, [f"data-00000-of-00001.arrow#{number}" for number in range(2)]),
    "jsonl": (write_jsonl, "jsonl", "clip", ["a.jsonl#0", "a.jsonl#18"]),
    "csv": (write_csv, "csv", "clip", ["a.csv#13", "a.csv#27"]),
}


def assert_equal_units(units: list[Unit], expected: list[Unit], names: list[str]) -> None:
    files = dict(zip(("0.mp4", "1.mkv"), names, strict=True))
    assert [unit.error for unit in units] == [None] * len(expected)
    for unit, wanted in zip(units, expected, strict=True):
        name, _, seconds = wanted.id.partition("#")
        assert unit.id == f"{files[name]}{MARK}{seconds}"
        np.testing.assert_array_equal(unit.medium.frames, wanted.medium.frames)
        assert unit.medium.start_seconds == wanted.medium.start_seconds
        if hasattr(wanted.medium, "samples"):
            np.testing.assert_array_equal(unit.medium.samples, wanted.medium.samples)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", WRITERS)
def test_a_video_in_a_record_gives_the_units_of_the_file(
    tmp_path: Path, units_of: UnitsOf, loose: Path, videos: list[bytes], form: str, kind: str
) -> None:
    write, source, column, names = WRITERS[form]
    write(tmp_path, videos)
    for piece_units in (None, 1, 3):
        options = KINDS[kind] | {"piece_units": piece_units}
        expected = units_of(Store(str(loose)), "video", **options)
        assert len(expected) > 2
        assert_equal_units(units_of(Store(str(tmp_path)), source, column=column, **options), expected, names)


@pytest.mark.parametrize("form", WRITERS)
def test_units_of_records_lie_between_start_and_end(
    tmp_path: Path, units_of: UnitsOf, loose: Path, videos: list[bytes], form: str
) -> None:
    write, source, column, names = WRITERS[form]
    write(tmp_path, videos)
    options = {"medium": "frame_pair", "fps": 10.0, "start": 0.1, "end": 0.3}
    expected = units_of(Store(str(loose)), "video", **options)
    assert expected
    assert_equal_units(units_of(Store(str(tmp_path)), source, column=column, **options), expected, names)
    assert units_of(Store(str(tmp_path)), source, column=column, **options | {"start": 50.0, "end": None}) == []


def test_units_have_the_id_and_the_kept_columns_of_their_record(
    tmp_path: Path, units_of: UnitsOf, videos: list[bytes]
) -> None:
    write_parquet(tmp_path, videos)
    units = units_of(Store(str(tmp_path)), "parquet", medium="frame_pair", fps=4.0, id_column="id", keep=("id",))
    assert [(unit.id, unit.kept) for unit in units] == [("x@0.000", {"id": "x"}), ("y@0.000", {"id": "y"})]


def test_a_damaged_video_costs_itself_only(tmp_path: Path, units_of: UnitsOf, videos: list[bytes]) -> None:
    members = [("0.mp4", videos[0][:100]), ("1.mp4", videos[1]), ("2.txt", b"no video"), ("3.mp4", b"<html>")]
    (tmp_path / "a.tar").write_bytes(tar(members))
    cut, *whole, without, html = units_of(Store(str(tmp_path)), "webdataset", medium="frame_pair")
    assert [number_of(unit.medium.frames[0]) for unit in whole] == [0, 1, 2, 3, 4]
    assert [unit.id for unit in (cut, without, html)] == ["a.tar#0", "a.tar#2", "a.tar#3"]
    assert "truncated or damaged MP4" in str(cut.error)
    assert "column mp4 or m4v" in str(without.error)
    assert "an HTML file is not a supported video file" in str(html.error)


@pytest.mark.parametrize("value", ["missing.mp4", "../secret.mp4", "", None, 3])
def test_a_record_without_a_readable_video_is_one_quarantined_unit(
    tmp_path: Path, units_of: UnitsOf, videos: list[bytes], value: Any
) -> None:
    write_jsonl(tmp_path, videos)
    lines = [json.dumps({"clip": each}) for each in (value, "1.bin")]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    bad, *good = units_of(Store(str(tmp_path)), "jsonl", medium="frame_pair", column="clip")
    assert (bad.id, isinstance(bad.error, BadMedium | Missing)) == ("a.jsonl#0", True)
    assert len(good) == 5


def test_a_record_without_an_id_is_one_quarantined_unit(tmp_path: Path, units_of: UnitsOf, videos: list[bytes]) -> None:
    pq.write_table(pa.table({"id": [None, "y"], "video": structs(videos)}), tmp_path / "a.parquet")
    for piece_units in (None, 1):
        options: dict[str, Any] = {"medium": "frame_pair", "id_column": "id", "piece_units": piece_units}
        units = units_of(Store(str(tmp_path)), "parquet", **options)
        assert [unit.id for unit in units if unit.error] == ["a.parquet#0"]


def test_records_after_damage_are_read_as_far_as_they_can_be(
    tmp_path: Path, units_of: UnitsOf, videos: list[bytes]
) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"clip": videos}), file, row_group_size=1, compression="none", write_statistics=False)
    data = file.getvalue()
    second = data.index(videos[1])
    (tmp_path / "a.parquet").write_bytes(data[: second - 12] + b"\xff" * 12 + data[second:])
    units = units_of(Store(str(tmp_path)), "parquet", medium="frame_pair", column="clip")
    assert [unit.error is None for unit in units] == [True] * 9 + [False]
    assert units[-1].id == "a.parquet#1"


def test_a_deleted_archive_has_an_error_of_each_piece_with_an_id_of_its_own(
    tmp_path: Path, videos: list[bytes]
) -> None:
    write_tar(tmp_path, videos)
    source = source_for("webdataset", SourceOptions(medium="frame_pair", piece_units=2))
    found = discover(str(tmp_path), source)
    pieces = list(source.pieces(found.store, next(found.entries)))
    (tmp_path / "a.tar").unlink()
    units = decode_all(unit for piece in pieces for unit in source.units(found.store, piece))
    assert {type(unit.error) for unit in units} == {Missing}
    assert len({unit.id for unit in units}) == len(pieces) > 4


def test_archives_are_planned_from_headers_however_large_their_videos_are(
    tmp_path: Path, units_of: UnitsOf, videos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset_module, "MAX_FILE_BYTES", 100)
    write_tar(tmp_path, videos)
    assert len(units_of(Store(str(tmp_path)), "webdataset", medium="frame_pair")) == 14
    (tmp_path / "a.tar").unlink()
    write_tgz(tmp_path, videos)
    units = units_of(Store(str(tmp_path)), "webdataset", medium="frame_pair")
    assert all("at most 100 are read" in str(unit.error) for unit in units), "they are held in memory"


def test_a_limit_cuts_a_video_and_the_next_plan_continues_with_the_rest(tmp_path: Path, videos: list[bytes]) -> None:
    (tmp_path / "in").mkdir()
    write_tar(tmp_path / "in", videos)
    source, output = source_for("webdataset", SourceOptions(medium="frame_pair")), Store(str(tmp_path / "out"))

    def planned(limit: int | None) -> list[str]:
        sizing = ShardSizing(unit_bytes=1, limit=limit)
        plan = freeze_plan(output, source, lambda: discover(str(tmp_path / "in"), source), sizing)
        rows = [row for file in plan.files for row in read_plan_file(output, file.name, file.sha256).to_pylist()]
        store = Store(str(tmp_path / "in"))
        ids = []
        for piece in (piece for row in rows for piece in pieces_in_row(row)):
            units = list(source.units(store, piece))[piece.skip or 0 :]
            ids += [unit.id for unit in units][: piece.most]
        return ids

    every = planned(3), planned(11), planned(None)
    assert [len(ids) for ids in every] == [3, 11, 14]
    assert every[2][:11] == every[1]
    assert len(set(every[2])) == 14


@pytest.mark.parametrize("extension", ["jsonl", "parquet"])
def test_a_video_that_was_missing_is_cut_again_once_it_is_there(
    tmp_path: Path, videos: list[bytes], extension: str
) -> None:
    write_jsonl(tmp_path, videos)
    if extension == "parquet":
        paths = pa.array([{"bytes": None, "path": f"{number}.bin"} for number in range(2)])
        pq.write_table(pa.table({"clip": paths}), tmp_path / "a.parquet")
    (tmp_path / "1.bin").unlink()
    source = source_for("auto", SourceOptions(medium="frame_pair", column="clip", piece_units=2))
    found = discover(str(tmp_path / f"a.{extension}"), source)
    pieces = list(source.pieces(found.store, next(found.entries)))
    assert [list(source.cut_again(found.store, piece)) for piece in pieces] == [[piece] for piece in pieces]
    (tmp_path / "1.bin").write_bytes(videos[1])
    *cut, missing = (list(source.cut_again(found.store, piece)) for piece in pieces)
    assert cut == [[piece] for piece in pieces[:-1]]
    assert len(missing) == 3
    units = decode_all(unit for piece in missing for unit in source.units(found.store, piece))
    assert [number_of(unit.medium.frames[0]) for unit in units] == [0, 1, 2, 3, 4]


def test_units_that_a_crash_leaves_unread_have_ids_of_their_own() -> None:
    pieces = [Piece(key="a.tar", version="v", size=9, begin=0, end=9, video_begin=begin) for begin in (0, 1_000_000)]
    loader = Loader(inputs=Store("/in"), output=Store("/out"), source=source_for("webdataset"), head=None)  # type: ignore[arg-type]
    ids = [unit.id for piece in pieces for unit in quarantine_rest(loader, piece, 2, MemoryError()) if unit]
    assert ids == ["a.tar#0@0+2", "a.tar#0@1000000+2"]


def test_a_column_that_cannot_hold_videos_is_refused(tmp_path: Path, units_of: UnitsOf) -> None:
    pq.write_table(pa.table({"video": [1], "other": [2]}), tmp_path / "a.parquet")
    with pytest.raises(AccessError, match=r"a\.parquet: column 'video' must hold videos, got int64"):
        units_of(Store(str(tmp_path)), "parquet", medium="frame_pair")
    with pytest.raises(AccessError, match=r"a\.parquet: column 'clip' not found; available columns: video, other"):
        units_of(Store(str(tmp_path)), "parquet", medium="frame_pair", column="clip")


def test_large_rows_are_decoded_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.sources import parquet_source

    monkeypatch.setattr(parquet_source, "_BATCH_BYTES", 12_000)
    rows = [np.random.default_rng(number).bytes(4_000) for number in range(7)]
    file = io.BytesIO()
    pq.write_table(pa.table({"video": rows}), file)
    table = parquet_source.ParquetTable(file, len(file.getvalue()))
    batches = list(table.batches(Piece(key="a", version="v", size=9, begin=1, end=7), ("video",)))
    assert max(batch.num_rows for _, batch in batches) == 2
    assert [row for _, batch in batches for row in batch.column(0).to_pylist()] == rows[1:]
