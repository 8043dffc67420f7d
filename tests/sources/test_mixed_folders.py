"""Folders as people have them: images or videos next to tables, tables next to a README."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.media import ClipSpec
from pipeline.runtime.plan.input_pieces import pieces_of_entries
from pipeline.sources import SourceOptions, discover, source_for
from pipeline.storage import AccessError
from tests.sources.test_webdataset_source import tar


def write(folder: Path, files: dict[str, bytes]) -> None:
    for key, data in files.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)


def planned(folder: Path | str, **options: Any) -> tuple[list[str], dict[str, str]]:
    """Return the keys of the planned files, and the reason of each file that is left out."""
    source = source_for("auto", SourceOptions(**options))
    found = discover(str(folder), source)
    pieces = list(pieces_of_entries(source, found.store, found.entries, found=found))
    left_out = dict(found.left_out.entries())
    assert found.read == len({key for piece in pieces for key in (piece.key, piece.other) if key})
    return sorted({piece.key for piece in pieces}), left_out


TABLES: dict[str, bytes] = {
    "train.csv": b"id,label\n0,0\n",
    "metadata.csv": b"file_name,caption\n0.png,c\n",
    "metadata.jsonl": b'{"file_name": "0.png", "caption": "c"}\n',
    "texts.tar": tar([("0.txt", b"no image")]),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("below", ["", "train/"])
def test_images_next_to_a_table_are_read_and_the_table_is_left_out(
    tmp_path: Path, png: Callable[..., bytes], name: str, below: str
) -> None:
    write(tmp_path, {f"{below}{number}.png": png(number) for number in range(2)} | {name: TABLES[name]})
    keys, left_out = planned(tmp_path, medium="image")
    assert keys == [f"{below}0.png", f"{below}1.png"]
    assert left_out == {name: "table without a column for the task, next to images or videos"}


def test_parquet_without_images_is_left_out_and_one_with_images_is_read(
    tmp_path: Path, png: Callable[..., bytes]
) -> None:
    write(tmp_path, {"0.png": png(0)})
    pq.write_table(pa.table({"image": [png(1)]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"label": [1]}), tmp_path / "b.parquet")
    keys, left_out = planned(tmp_path, medium="image")
    assert (keys, list(left_out)) == (["0.png", "a.parquet"], ["b.parquet"])


def test_frames_next_to_a_table_are_read_as_pairs(tmp_path: Path, png: Callable[..., bytes]) -> None:
    write(tmp_path, {f"{number}.png": png(number) for number in range(3)} | {"labels.csv": b"id\n1\n"})
    keys, left_out = planned(tmp_path, medium="frame_pair")
    assert (keys, list(left_out)) == (["0.png", "1.png"], ["labels.csv"])


@pytest.mark.parametrize("name", ["README.txt", "readme.txt", "LICENSE.txt", "notes.txt"])
def test_table_is_read_and_texts_without_columns_are_left_out_if_a_column_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"reviews.csv": b"review,stars\ngood,5\n", name: b"Collected in 2026.\n"})
    keys, left_out = planned(tmp_path, column="review")
    assert (keys, left_out) == (["reviews.csv"], {name: "without columns, while an option names one"})


@pytest.mark.parametrize("name", ["README.txt", "readme.txt", "LICENSE.txt", "README.de.txt"])
def test_readme_next_to_a_table_is_left_out(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"reviews.csv": b"text,stars\ngood,5\n", name: b"Collected in 2026.\n"})
    keys, left_out = planned(tmp_path)
    assert (keys, left_out) == (["reviews.csv"], {name: "about the tables in the folder"})


def test_readme_without_a_table_or_by_its_name_is_text(tmp_path: Path) -> None:
    write(tmp_path, {"README.txt": b"a\n", "notes.txt": b"b\n", "readmes are fun.txt": b"c\n"})
    assert planned(tmp_path) == (["README.txt", "notes.txt", "readmes are fun.txt"], {})
    write(tmp_path, {"reviews.csv": b"text\ngood\n"})
    assert planned(tmp_path)[0] == ["notes.txt", "readmes are fun.txt", "reviews.csv"]
    assert planned(tmp_path / "README.txt") == (["README.txt"], {})


def test_images_are_left_out_if_a_column_is_named(tmp_path: Path, png: Callable[..., bytes]) -> None:
    write(tmp_path, {"0.png": png(0), "pairs.csv": b"photo\n0.png\n"})
    keys, left_out = planned(tmp_path, medium="image", column="photo")
    assert (keys, left_out) == (["pairs.csv"], {"0.png": "without columns, while an option names one"})


@pytest.mark.parametrize("medium", ["text", "image"])
def test_table_without_the_column_and_without_media_is_refused_with_the_remedy(tmp_path: Path, medium: str) -> None:
    write(tmp_path, {"train.csv": b"id,label\n0,0\n", "notes.txt": b"a\n"})
    pattern = rf"train\.csv: column '{medium}' not found; available columns: id, label\. Name the column with --column"
    with pytest.raises(AccessError, match=pattern):
        planned(tmp_path, medium=medium)


def test_table_that_is_named_is_never_left_out(tmp_path: Path, png: Callable[..., bytes]) -> None:
    write(tmp_path, {"0.png": png(0), "train.csv": b"id\n0\n"})
    for uri in (tmp_path / "train.csv", tmp_path / "*"):
        with pytest.raises(AccessError, match=r"train\.csv: column 'image' not found.*--input-format.*glob"):
            planned(uri, medium="image")


CLIP = ClipSpec(frames=4, fps=10, samples=3200, sample_rate=8000, reduce=lambda frame: frame)


@pytest.mark.parametrize("medium", ["frame_pair", "clip"])
def test_archives_and_tables_with_videos_are_read_next_to_videos_and_other_tables_are_left_out(
    tmp_path: Path, medium: str
) -> None:
    video = b"a damaged video"
    write(tmp_path, {"0.tar": tar([("0.mp4", video)]), "drive.mp4": video, "labels.csv": b"id,video\n0,drive.mp4\n"})
    pq.write_table(pa.table({"video": [{"bytes": video, "path": None}]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"label": [1]}), tmp_path / "labels.parquet")
    keys, left_out = planned(tmp_path, medium=medium, clip_spec=CLIP)
    assert keys == ["0.tar", "a.parquet", "drive.mp4"]
    assert left_out == dict.fromkeys(
        ("labels.csv", "labels.parquet"), "table without a column for the task, next to images or videos"
    )


@pytest.mark.parametrize("medium", ["frame_pair", "clip"])
def test_table_of_paths_is_refused_with_what_to_name(tmp_path: Path, medium: str) -> None:
    write(tmp_path, {"labels.csv": b"id,video\n0,drive.mp4\n"})
    with pytest.raises(AccessError, match=r"labels\.csv: column \(None\) must name the column of csv with the paths"):
        planned(tmp_path, medium=medium, clip_spec=CLIP)
