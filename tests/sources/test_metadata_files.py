"""metadata.csv, metadata.jsonl and metadata.parquet next to images and videos: their columns can be kept."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.runtime.plan.input_pieces import pieces_of_entries
from pipeline.runtime.plan.plan_files import planned_pieces
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.runtime.records.listing import ListedInputs, left_out_lines
from pipeline.sources import Listing, SourceOptions, discover, source_for
from pipeline.storage import AccessError, Reason, Store
from tests.decoded_units import decode_all
from tests.sample_videos import make_video

Kept = dict[str, str | None]


@pytest.fixture
def folder(tmp_path: Path, png: Callable[..., bytes]) -> Path:
    """Images in nested folders."""
    folder = tmp_path / "in"
    for number, name in enumerate(("0.png", "1.png", "b/2.png", "b/c/3.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))
    return folder


def read(uri: Path | str, *keep: str, name: str = "auto", **options: Any) -> tuple[dict[str, Kept], Listing]:
    """Return the kept columns of each unit, and the listing."""
    source = pickle.loads(pickle.dumps(source_for(name, SourceOptions(**{"medium": "image", "keep": keep} | options))))
    found = discover(str(uri), source)
    pieces = list(pieces_of_entries(source, found.store, found.entries, found=found))
    units = [unit for piece in pieces for unit in decode_all(source.units(found.store, piece))]
    assert [unit.error for unit in units if unit.error] == []
    return {unit.id: {name: unit.kept[name] for name in keep} for unit in units}, found


def reasons(found: Listing) -> dict[str, str]:
    return dict(found.left_out.entries())


ROWS = [{"file_name": "0.png", "label": "cat"}, {"file_name": "1.png", "label": "dog"}]
WRITTEN: dict[str, Callable[[Path], Any]] = {
    "metadata.csv": lambda path: path.write_text("label,file_name\ncat,0.png\ndog,1.png\n"),
    "metadata.jsonl": lambda path: path.write_text("\n".join(map(json.dumps, ROWS))),
    "metadata.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("input_format", ["auto", "images"])
def test_each_image_has_its_row_of_the_metadata_as_in_datasets(folder: Path, name: str, input_format: str) -> None:
    for nested in ("b/2.png", "b/c/3.png"):
        (folder / nested).unlink()
    WRITTEN[name](folder / name)
    kept, found = read(folder, "label", name=input_format)
    expected = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")
    expected = expected.cast_column("image", datasets.Image(decode=False))
    assert kept == {Path(row["image"]["path"]).name: {"label": row["label"]} for row in expected}
    assert reasons(found) == {name: Reason.METADATA}
    assert ListedInputs.of(found).listed == 3


def test_nearest_metadata_file_that_names_an_image_counts(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,label\n0.png,top\nb/2.png,top\nb/c/3.png,top\n1.png,top\n")
    (folder / "b/metadata.jsonl").write_text('{"file_name": "2.png", "label": "below"}\n')
    kept, _ = read(folder, "label")
    assert {name: row["label"] for name, row in kept.items()} == {
        "0.png": "top",
        "1.png": "top",
        "b/2.png": "below",
        "b/c/3.png": "top",
    }


def test_image_without_a_row_has_null_and_is_counted_and_said(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,label\n0.png,cat\nb/2.png,dog\n")
    kept, found = read(folder, "label")
    assert {name: row["label"] for name, row in kept.items()} == {
        "0.png": "cat",
        "1.png": None,
        "b/2.png": "dog",
        "b/c/3.png": None,
    }
    listed = ListedInputs.of(found)
    assert listed.totals()["unnamed"] == 2
    assert "kept columns are null: 2, not named in a metadata file: 1.png, b/c/3.png" in left_out_lines(
        Store(str(folder)), listed
    )


def test_row_without_a_file_is_left_out_but_one_of_a_file_that_is_left_out_counts_once(folder: Path) -> None:
    (folder / "notes.xyz").write_text("x")
    (folder / ".hidden.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "dangling.png").symlink_to("nowhere")
    names = ("0.png", "gone.png", "notes.xyz", ".hidden.png", "dangling.png", "b/gone.png", "1.png", "./b/2.png")
    (folder / "metadata.csv").write_text("file_name,n\n" + "".join(f"{name},x\n" for name in names))
    _, found = read(folder, "n")
    assert reasons(found) == {
        "metadata.csv": Reason.METADATA,
        "gone.png": Reason.NAMED_ONLY,
        "b/gone.png": Reason.NAMED_ONLY,
        "notes.xyz": Reason.UNKNOWN_KIND,
        ".hidden.png": Reason.HIDDEN,
        "dangling.png": Reason.DANGLING_LINK,
    }


def test_values_are_text_and_other_values_json(folder: Path) -> None:
    rows = [{"file_name": "0.png", "n": 3, "box": [1.5, 2.5]}, {"file_name": "1.png", "n": None, "box": []}]
    expected = {"0.png": {"n": "3", "box": "[1.5, 2.5]"}, "1.png": {"n": None, "box": "[]"}}
    for name, write in {
        "metadata.jsonl": lambda path: path.write_text("\n".join(map(json.dumps, rows))),
        "metadata.parquet": lambda path: pq.write_table(pa.Table.from_pylist(rows), path),
    }.items():
        write(folder / name)
        kept, _ = read(folder, "n", "box")
        assert {key: kept[key] for key in expected} == expected
        (folder / name).unlink()


def test_metadata_in_a_bucket_is_read(s3, png: Callable[..., bytes]) -> None:
    store = Store(f"{s3.bucket('metadata')}/lang=de/in put")
    for number, key in enumerate(("0 #.png", "lang=en/1.png", "lang=en/2.png")):
        store.put(key, png(number))
    store.put(
        "lang=en/metadata.jsonl", b'{"file_name": "1.png", "label": "cat"}\n{"file_name": "gone.png", "label": 1}'
    )
    kept, found = read(store.uri, "label", "lang")
    assert kept == {
        "0 #.png": {"label": None, "lang": None},
        "lang=en/1.png": {"label": "cat", "lang": "en"},
        "lang=en/2.png": {"label": None, "lang": "en"},
    }
    assert reasons(found) == {"lang=en/metadata.jsonl": Reason.METADATA, "lang=en/gone.png": Reason.NAMED_ONLY}
    assert found.columns.unnamed == 2


def test_image_without_extension_has_its_row(folder: Path) -> None:
    (folder / "0.png").rename(folder / "photo")
    (folder / "metadata.csv").write_text("file_name,label\nphoto,cat\n1.png,dog\nb/2.png,x\nb/c/3.png,y\n")
    kept, found = read(folder, "label")
    assert (kept["photo"], kept["1.png"], found.columns.unnamed) == ({"label": "cat"}, {"label": "dog"}, 0)


def test_row_with_several_files_gives_its_columns_to_each(folder: Path) -> None:
    (folder / "metadata.jsonl").write_text(
        '{"left_file_name": "0.png", "right_file_name": "1.png", "pair": "a"}\n'
        '{"left_file_name": "b/2.png", "right_file_name": null, "pair": "b"}\n'
    )
    assert read(folder, "pair")[0] == {
        "0.png": {"pair": "a"},
        "1.png": {"pair": "a"},
        "b/2.png": {"pair": "b"},
        "b/c/3.png": {"pair": None},
    }
    row = {"file_names": ["0.png", "1.png"], "pair": "c"}
    (folder / "metadata.jsonl").write_text(json.dumps(row))
    assert read(folder, "pair")[0]["1.png"] == {"pair": "c"}
    (folder / "metadata.jsonl").unlink()
    pq.write_table(pa.Table.from_pylist([row]), folder / "metadata.parquet")
    assert read(folder, "pair")[0]["1.png"] == {"pair": "c"}


def test_frame_pair_has_the_row_of_its_first_frame_and_video_units_that_of_the_video(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "metadata.csv").write_text("file_name,label\n0.png,cat\n1.png,dog\n")
    assert read(folder, "label", medium="frame_pair")[0] == {"0.png": {"label": "cat"}}
    videos = tmp_path / "videos"
    videos.mkdir()
    make_video(videos / "a.mp4", times=[0.0, 0.1, 0.2], size=(16, 16))
    (videos / "metadata.csv").write_text("file_name,label\na.mp4,drive\n")
    kept, _ = read(videos, "label", medium="frame_pair")
    assert list(kept.values()) == [{"label": "drive"}] * 2


def test_metadata_applies_to_a_glob_and_to_a_named_file(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,label\n0.png,cat\n1.png,dog\ngone.png,x\n")
    for uri in (folder / "0.*", folder / "0.png"):
        kept, found = read(uri, "label")
        assert (kept, reasons(found)) == ({"0.png": {"label": "cat"}}, {})


def test_values_are_frozen_with_the_plan(folder: Path, tmp_path: Path, png: Callable[..., bytes]) -> None:
    (folder / "metadata.csv").write_text("file_name,label\n0.png,cat\n1.png,dog\n")
    output, source = Store(str(tmp_path / "out")), source_for("auto", SourceOptions(medium="image", keep=("label",)))
    sizing = ShardSizing(unit_bytes=1)

    def plan() -> dict[str, str | None]:
        segments = freeze_plan(output, source, lambda: discover(str(folder), source), sizing).segments
        keys = {"0.png", "1.png", "4.png"}
        return {piece.key: piece.kept for segment in segments for piece in planned_pieces(output, segment, keys)}

    assert plan() == {"0.png": '{"label": "cat"}', "1.png": '{"label": "dog"}'}
    (folder / "metadata.csv").write_text("file_name,label\n0.png,changed\n4.png,bird\n")
    (folder / "4.png").write_bytes(png(4))
    assert plan() == {"0.png": '{"label": "cat"}', "1.png": '{"label": "dog"}', "4.png": '{"label": "bird"}'}


def test_without_keep_columns_or_with_a_column_the_table_is_what_it_was(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,label\n0.png,cat\n")
    _, found = read(folder)
    assert reasons(found) == {"metadata.csv": Reason.NO_MEDIUM_COLUMN}
    kept, found = read(folder, "label", column="file_name")
    assert kept == {"metadata.csv#16": {"label": "cat"}}
    assert set(reasons(found).values()) == {Reason.NO_COLUMNS}


def test_table_of_images_called_metadata_is_a_table(folder: Path) -> None:
    (folder / "metadata.csv").write_text("image,label\n0.png,cat\n")
    kept, found = read(folder, "label")
    assert kept == {"metadata.csv#12": {"label": "cat"}}
    assert set(reasons(found).values()) == {Reason.NO_COLUMNS}


WRONG = [
    ("csv", "file_name,breed\n0.png,cat\n", ": column 'label' not found; available columns: file_name, breed"),
    (
        "csv",
        "name,label\n0.png,cat\n",
        ": column 'file_name' not found (did you mean name?); available columns: name, label",
    ),
    ("csv", "file_name,label\n../0.png,cat\n", "#16: '../0.png' is not a path"),
    ("csv", "file_name,label\n/0.png,cat\n", "#16: '/0.png' is an absolute path"),
    ("csv", "file_name,label\n,cat\n", "#16: the row names no file: file_name is empty"),
    ("csv", "file_name,label\n0.png\n", "#16: the row has 1 fields, the header has 2"),
    ("csv", "file_name,label\n0.png,cat\n0.png,dog\n", "#26: '0.png' has other kept columns in an earlier row: "),
    ("jsonl", '{"file_name": "0.png", "label": ', "#0: the record is not valid JSON"),
    ("jsonl", '{"file_name": 3, "label": 1}', "#0: column 'file_name' must hold names of files, got 3"),
    ("parquet", "PAR1 cut short", ": the metadata file cannot be read: "),
]


@pytest.mark.parametrize(("extension", "content", "message"), WRONG)
def test_wrong_metadata_is_refused_with_the_file_and_the_cause(
    folder: Path, extension: str, content: str, message: str
) -> None:
    (folder / f"metadata.{extension}").write_text(content)
    with pytest.raises(AccessError) as caught:
        read(folder, "label")
    assert f"{folder}/metadata.{extension}{message}" in str(caught.value)


def test_same_values_twice_are_no_conflict(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,label,box\n0.png,cat,1\n0.png,cat,2\n")
    assert read(folder, "label")[0]["0.png"] == {"label": "cat"}


def test_images_without_metadata_are_refused_with_the_remedy(folder: Path) -> None:
    with pytest.raises(AccessError, match=r"4, without columns, while an option names one: .*metadata\.csv"):
        read(folder, "label")
    with pytest.raises(AccessError, match=r"0\.png: the file has no columns to keep \(label\): put a metadata\.csv"):
        read(folder / "0.png", "label")
