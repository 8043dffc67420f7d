"""Files of a folder whose names do not tell what they are: their first bytes do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.runtime.plan.plan_files import pieces_in_row, read_plan_file
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.sources import SourceOptions, Unit, discover, source_for
from pipeline.sources.auto_source import AutoSource
from pipeline.storage import AccessError, Store
from tests.sample_videos import make_video
from tests.sources.test_auto_source import TEXTS, WRITERS, units, write_parquet, write_tar_gz
from tests.sources.test_mixed_folders import planned, write

Png = Callable[..., bytes]


def write_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))


def write_jsonl_gz(path: Path) -> None:
    write_jsonl(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def medium_text(unit: Unit) -> str:
    return unit.medium if isinstance(unit.medium, str) else unit.medium.decode()


@pytest.mark.parametrize("name", ["part-00000", "weird.name", "x.dat"])
@pytest.mark.parametrize("write_table", [*WRITERS, write_tar_gz, write_jsonl, write_jsonl_gz])
def test_table_in_a_folder_is_read_by_its_content(
    tmp_path: Path, write_table: Callable[[Path], None], name: str
) -> None:
    write_table(tmp_path / name)
    write(tmp_path, {"z.txt": b"last"})
    assert list(map(medium_text, units(tmp_path, medium="text").values())) == [*TEXTS, "last"]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM"])
def test_image_without_an_extension_is_read(tmp_path: Path, form: str) -> None:
    Image.new("RGB", (12, 8), "red").save(tmp_path / "photo", form)
    (unit,) = units(tmp_path, medium="image").values()
    assert (unit.id, unit.medium.shape) == ("photo", (8, 12, 3))


@pytest.mark.parametrize("container", [".mp4", ".mkv", ".avi", ".ts"])
def test_video_with_another_extension_is_read(tmp_path: Path, container: str) -> None:
    make_video(tmp_path / f"v{container}", 0.2).rename(tmp_path / "v.dat")
    found = units(tmp_path, medium="frame_pair")
    assert [unit.id for unit in found.values()] == [f"v.dat#{number / 25:.3f}" for number in range(4)]


def test_frames_without_extensions_are_paired_and_an_animation_is_a_sequence(tmp_path: Path, png: Png) -> None:
    write(tmp_path, {"a": png(0), "b.png": png(1), "c": png(2)})
    frames = [Image.new("L", (8, 6), shade) for shade in (0, 99, 255)]
    frames[0].save(tmp_path / "waves", "GIF", save_all=True, append_images=frames[1:])
    assert list(units(tmp_path, medium="frame_pair")) == ["a", "b.png", "waves#0", "waves#1"]


def test_plain_text_and_other_kinds_stay_left_out(tmp_path: Path, png: Png) -> None:
    other: dict[str, bytes] = {
        "notes": b"plain text\n",
        "a.pdf": b"%PDF-1.7\0\n",
        "a.docx": b"PK\x03\x04" + bytes(30),
        "lock.meta": b'{\n "text": "over several lines"\n}',
        "shouting": b"G" * 400,
        "bitmap": b"BM is not a bitmap",
        "list": b'["text"]\n',
        "cut.gz": gzip.compress(b'{"text": "x"}\n' * 99)[:20],
        "logs": gzip.compress(b"plain text"),
        "empty": b"",
    }
    write(tmp_path, other | {"a.txt": b"a"})
    assert planned(tmp_path) == (["a.txt"], dict.fromkeys(other, "unknown kind"))


@pytest.mark.parametrize("name", ["_x.", "_x"])
def test_a_named_file_is_recognised_though_its_name_is_that_of_a_marker(tmp_path: Path, name: str) -> None:
    frames = [Image.new("L", (8, 6), shade) for shade in (0, 99, 255)]
    frames[0].save(tmp_path / name, "GIF", save_all=True, append_images=frames[1:])
    source = source_for("auto", SourceOptions(medium="frame_pair"))
    for uri in (tmp_path / name, tmp_path / "_*"):
        found = discover(str(uri), source)
        pieces = [piece for entry in found.entries for piece in source.pieces(found.store, entry)]
        assert [unit.id for piece in pieces for unit in source.units(found.store, piece)] == [f"{name}#0", f"{name}#1"]


def test_copies_partial_downloads_raw_images_and_markers_are_not_looked_into(tmp_path: Path, png: Png) -> None:
    names = ["a.png.part", "a.png~", "a.jpg_original", "a.NEF", "a.THM", "_metadata", "_SUCCESS"]
    write(tmp_path, dict.fromkeys(names, png(0)) | {"a.png": png(0)})
    assert planned(tmp_path, medium="image") == (["a.png"], dict.fromkeys(names, "unknown kind"))


def test_file_of_another_medium_is_left_out_as_such(tmp_path: Path, png: Png) -> None:
    write(tmp_path, {"photo": png(0), "a.txt": b"a"})
    assert planned(tmp_path) == (["a.txt"], {"photo": "not the task's medium"})


def test_unfinished_files_of_datasets_are_left_out(tmp_path: Path) -> None:
    for name in ("tmp1a2b3c4d", "data-part"):
        WRITERS[2](tmp_path / name)
    assert planned(tmp_path) == (["data-part"], {"tmp1a2b3c4d": "not a data file of a saved dataset"})


def test_table_by_content_with_columns_of_other_types_is_left_out(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1]}), tmp_path / "part-0")
    write(tmp_path, {"a.txt": b"a"})
    assert planned(tmp_path) == (["a.txt"], {"part-0": "table known by its content, without a column for the run"})


@pytest.mark.parametrize("options", [{}, {"column": "other"}, {"column": "text", "keep": ("label",)}])
def test_table_by_content_without_a_needed_column_is_left_out(tmp_path: Path, options: dict[str, Any]) -> None:
    write(tmp_path, {"a.csv": b"text,other,label\na,b,c\n", "part-0": b'{"id": 1}\n'})
    assert planned(tmp_path, **options) == (
        ["a.csv"],
        {"part-0": "table known by its content, without a column for the run"},
    )


def test_folder_with_only_such_tables_is_refused_naming_one(tmp_path: Path) -> None:
    write(tmp_path, {"part-0": b'{"id": 1}\n', "part-1": b'{"id": 1}\n'})
    with pytest.raises(AccessError, match=r"part-1: column 'text' not found"):
        planned(tmp_path)
    with pytest.raises(AccessError, match=r"part-0: column 'text' not found"):
        planned(tmp_path / "part-0")


def test_images_without_extensions_are_read_next_to_a_table(tmp_path: Path, png: Png) -> None:
    write(tmp_path, {"metadata.csv": b"file_name\nx\n", "x": png(0)})
    assert planned(tmp_path, medium="image") == (
        ["x"],
        {"metadata.csv": "table without a column for the task, next to images or videos"},
    )


def test_damaged_file_is_quarantined(tmp_path: Path, png: Png) -> None:
    write_parquet(tmp_path / "part-0")
    (tmp_path / "part-0").write_bytes((tmp_path / "part-0").read_bytes()[:-20])
    write(tmp_path, {"a.txt": b"a"})
    first, second = units(tmp_path, medium="text").values()
    assert (first.medium, second.id) == (b"a", "part-0")
    assert "truncated or damaged" in str(second.error)


def test_only_files_of_unknown_kind_are_looked_into_by_one_request_each(s3_proxy, s3, png: Png) -> None:
    store = Store(f"{s3.bucket('kinds')}/in")
    for name in ("a.png", "b.png", "c", "notes.txt"):
        store.put(name, png(0))
    source = source_for("auto", SourceOptions(medium="image"))
    before = len(s3_proxy.seen)
    assert [entry.key for entry in discover(store.uri, source).entries] == ["a.png", "b.png", "c"]
    read = [(path, {name.lower(): value for name, value in headers.items()}) for _, path, headers, _ in s3_proxy.seen]
    read = [(path, headers.get("range")) for path, headers in read[before:] if "/in/" in path]
    assert [(path.rpartition("/")[2], asked) for path, asked in read] == [("c", "bytes=0-16383")]


def test_archived_file_of_unknown_kind_is_left_out_with_the_reason(s3, png: Png) -> None:
    bucket = s3.bucket("cold").removeprefix("s3://")
    for name, storage in (("a", "GLACIER"), ("b", "STANDARD")):
        s3.client.put_object(Bucket=bucket, Key=name, Body=png(0), StorageClass=storage)
    assert planned(f"s3://{bucket}", medium="image") == (
        ["b"],
        {"a": "of a kind that only its content tells, which cannot be read"},
    )
    assert planned(f"s3://{bucket}/*", medium="image") == (["a", "b"], {}), "named files are read or quarantined"


def test_plan_of_an_earlier_version_is_kept_and_the_files_are_new(
    tmp_path: Path, png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in", {"a.png": png(0), "photo": png(1)})
    output, source = Store(str(tmp_path / "out")), source_for("auto", SourceOptions(medium="image"))

    def plan() -> list[list[str]]:
        sizing = ShardSizing(unit_bytes=1)
        frozen = freeze_plan(output, source, lambda: discover(str(tmp_path / "in"), source), sizing)
        tables = [read_plan_file(output, file.name, file.sha256) for file in frozen.files]
        return [[piece.key for row in table.to_pylist() for piece in pieces_in_row(row)] for table in tables]

    with monkeypatch.context() as patch:
        patch.setattr(AutoSource, "is_unknown", lambda *_, **__: False)
        assert plan() == [["a.png"]]
    assert plan() == [["a.png"], ["photo"]]
    assert plan() == [["a.png"], ["photo"]]


JSON_FILES: dict[str, bytes] = {
    "a.json": b'{"text": "one"}\n{"text": "two"}\n',
    "b.json": b'[{"text": "three"},\n {"text": "four"}]',
    "c.json": b'{\n "text": "five"\n}',
}


def test_folder_of_json_is_read_as_lines_arrays_and_single_records(tmp_path: Path) -> None:
    write(tmp_path, JSON_FILES | {"README.txt": b"about"})
    assert [unit.medium for unit in units(tmp_path, medium="text").values()] == ["one", "two", "three", "four", "five"]
    assert planned(tmp_path)[1] == {"README.txt": "about the tables in the folder"}


@pytest.mark.parametrize("other", ["notes.txt", "a.csv", "sub/a.jsonl"])
def test_json_next_to_other_files_is_left_out(tmp_path: Path, other: str) -> None:
    write(tmp_path, JSON_FILES | {other: b'{"text": "x"}' if "json" in other else b"text\nx\n"})
    assert planned(tmp_path) == ([other], dict.fromkeys(JSON_FILES, "JSON next to other files that are read"))


def test_json_next_to_images_is_left_out_and_videos_too(tmp_path: Path, png: Png) -> None:
    write(tmp_path, {"a.json": b'{"image": "a.png"}', "a.png": png(0), "license.json": b"{}"})
    names = {
        "a.json": "JSON next to other files that are read",
        "license.json": "JSON next to other files that are read",
    }
    assert planned(tmp_path, medium="image") == (["a.png"], names)


def test_output_below_the_input_does_not_hide_its_json(tmp_path: Path) -> None:
    write(tmp_path, JSON_FILES | {"out/_run/run.json": b"{}", "out/predictions/part.parquet": b"PAR1"})
    assert planned(tmp_path)[0] == list(JSON_FILES)
