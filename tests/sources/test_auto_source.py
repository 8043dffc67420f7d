"""Folders with files of several formats: each file is read by the source of its extension."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.sources import SOURCES, SourceOptions, Unit, discover, source_for
from pipeline.sources.auto_source import AutoSource
from pipeline.storage import AccessError
from tests.decoded_units import decode_all


def units(folder: Path, **options: object) -> dict[str, Unit]:
    """The units of a folder by their id."""
    source = source_for("auto", SourceOptions(**options))  # type: ignore[arg-type]
    found = discover(str(folder), pickle.loads(pickle.dumps(source)))
    pieces = [piece for entry in found.entries for piece in source.pieces(found.store, entry)]
    return {unit.id: unit for piece in pieces for unit in decode_all(source.units(found.store, piece))}


def png(size: tuple[int, int] = (4, 3)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, "PNG")
    return file.getvalue()


def test_each_file_is_read_by_the_source_of_its_extension(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo")
    (tmp_path / "b.jsonl").write_text('{"text": "three"}')
    (tmp_path / "c.csv").write_text("text\nfour\n")
    (tmp_path / "image.png").write_bytes(png())
    found = units(tmp_path, medium="text")
    assert {name: unit.medium for name, unit in found.items()} == {
        "a.txt#0": b"one",
        "a.txt#4": b"two",
        "b.jsonl#0": "three",
        "c.csv#5": "four",
    }


def test_caches_of_a_saved_dataset_are_not_read(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(tmp_path / "saved")
    data = next((tmp_path / "saved").glob("data-*.arrow"))
    (tmp_path / "saved/cache-0123456789abcdef.arrow").write_bytes(data.read_bytes())
    assert [unit.medium for unit in units(tmp_path, medium="text").values()] == ["a", "b"]
    data.unlink()
    with pytest.raises(AccessError, match=r"1, not a data file of a saved dataset: saved/cache-0123456789abcdef.arrow"):
        units(tmp_path, medium="text")


def test_frames_are_paired_next_to_files_that_are_not_frames(tmp_path: Path) -> None:
    for name in ("1.png", "3.png"):
        (tmp_path / name).write_bytes(png())
    (tmp_path / "2.csv").write_text("left,right\n1.png,3.png\n")
    assert list(units(tmp_path, medium="frame_pair", column="left,right")) == ["2.csv#11"], "frames have no columns"
    (tmp_path / "tables").mkdir()
    (tmp_path / "2.csv").rename(tmp_path / "tables/2.csv")
    with pytest.raises(ValueError, match="two"):
        source_for("csv", SourceOptions(medium="frame_pair"))
    (tmp_path / "tables/2.csv").unlink()
    assert list(units(tmp_path, medium="frame_pair")) == ["1.png"]


def test_a_file_without_a_known_extension_is_read_by_the_first_source(tmp_path: Path) -> None:
    (tmp_path / "photo.dat").write_bytes(png())
    source = source_for("auto", SourceOptions(medium="image"))
    found = discover(f"{tmp_path}/*.dat", source)
    (piece,) = source.pieces(found.store, next(found.entries))
    (unit,) = decode_all(source.units(found.store, piece))
    assert unit.medium.shape == (3, 4, 3)


TEXTS = ["one text", "another"]


def write_parquet(path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS}), path)


def write_arrow_file(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, pa.schema([("text", pa.string())])) as writer:
        for text in TEXTS:
            writer.write_batch(pa.record_batch({"text": [text]}))


def write_arrow_stream(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, pa.schema([("text", pa.string())])) as writer:
        writer.write_table(pa.table({"text": TEXTS}))


def write_feather(path: Path) -> None:
    feather.write_feather(pa.table({"text": TEXTS}), str(path))


def write_dictionary_feather(path: Path) -> None:
    feather.write_feather(pa.table({"text": pa.array(TEXTS).dictionary_encode()}), str(path))


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for number, text in enumerate(TEXTS):
            member = tarfile.TarInfo(f"{number}.txt")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


def write_tar_gz(path: Path) -> None:
    write_tar(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


WRITERS = (write_parquet, write_arrow_file, write_arrow_stream, write_feather, write_dictionary_feather, write_tar)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        *((write, name) for write in (*WRITERS, write_tar_gz) for name in ("part-00000", "weird.name", "a.txt")),
        *((write, name) for write in WRITERS for name in ("a.csv", "a.json", "a.PARQUET", "a.tar", "a.arrow")),
        *((write_parquet, "train.pq"), (write_feather, "a.feather"), (write_tar_gz, "a.data.gz")),
        *((write_arrow_file, "train.arrow"), (write_arrow_stream, "cache-0123456789abcdef.arrow")),
    ],
)
def test_a_named_file_is_read_by_its_content(tmp_path: Path, write: Callable[[Path], None], name: str) -> None:
    write(tmp_path / name)
    found = list(units(tmp_path / name, medium="text").values())
    assert [unit.medium if isinstance(unit.medium, str) else unit.medium.decode() for unit in found] == TEXTS


@pytest.mark.parametrize("medium", ["text", "image", "array"])
def test_a_named_json_file_holds_records_for_each_task(tmp_path: Path, medium: str) -> None:
    (tmp_path / "1.png").write_bytes(png())
    (tmp_path / "a.json").write_text(json.dumps([{"text": "one", "image": "1.png", "inputs": [[1, 2]]}]))
    (unit,) = units(tmp_path / "a.json", medium=medium).values()
    assert unit.error is None
    assert unit.medium is not None


def test_an_option_that_no_source_supports_is_refused() -> None:
    with pytest.raises(ValueError, match="fps"):
        AutoSource([SOURCES["images"], SOURCES["csv"]], SourceOptions(medium="frame_pair", column="a,b", fps=5))
