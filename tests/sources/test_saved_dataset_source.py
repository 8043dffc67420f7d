"""Folders written by `datasets`, compared with `datasets`: every row is read once, caches are not read."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest

from pipeline.sources import Piece, Source, Unit, discover, source_for
from pipeline.sources.images.image_decoding import decode_image
from pipeline.sources.source import SourceOptions
from pipeline.sources.tables import table_reader as tables_module
from pipeline.sources.tables.arrow_stream_index import record_batches
from pipeline.storage import AccessError, Changed, Store
from tests.decoded_units import decode_all

UnitsOf = Callable[..., list[Unit]]
Png = Callable[..., bytes]


def texts(count: int, label: str = "text") -> datasets.Dataset:
    """Return a table of texts with a label and a struct."""
    names = datasets.ClassLabel(names=["no", "yes"])
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": names, "at": {"x": datasets.Value("int8")}}
    )
    rows = [{"text": f"{label} {number}", "label": number % 2, "at": {"x": number % 100}} for number in range(count)]
    return datasets.Dataset.from_list(rows, features=features)


def copied(folder: Path, store: Store) -> None:
    """Copy a local folder into a store."""
    for path in folder.rglob("*"):
        if path.is_file():
            store.put(path.relative_to(folder).as_posix(), path.read_bytes())


def stream(table: pa.Table, rows: int, **options: Any) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema, **options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return file.getvalue()


def planned(uri: str, **options: Any) -> tuple[Source, Store, list[Piece]]:
    source = source_for("dataset", SourceOptions(**options))
    found = discover(uri, source)
    return source, found.store, [piece for entry in found.entries for piece in source.pieces(found.store, entry)]


@pytest.mark.parametrize(
    ("folder", "piece_units"), [*(("local", units) for units in (None, 1, 33)), ("s3", 33)], indirect=["folder"]
)
def test_a_saved_dataset_is_read_row_by_row(
    tmp_path: Path, folder: Store, units_of: UnitsOf, piece_units: int | None
) -> None:
    saved = texts(250)
    saved.save_to_disk(tmp_path / "saved", num_shards=3)
    copied(tmp_path / "saved", folder)
    folder.put("cache-0123.arrow", stream(pa.table({"text": ["cached"]}), 10))
    folder.put("tmpabc.arrow", b"unfinished")
    units = units_of(folder, "dataset", keep=("label", "at"), piece_units=piece_units)
    assert [unit.medium for unit in units] == saved["text"][:]
    assert [unit.kept for unit in units] == [{"label": row["label"], "at": row["at"]} for row in saved]
    assert [unit.id for unit in units[:2]] == ["data-00000-of-00003.arrow#0", "data-00000-of-00003.arrow#1"]


def test_all_splits_of_a_saved_dataset_are_read(tmp_path: Path, units_of: UnitsOf) -> None:
    splits = {"train": texts(5, "train"), "test": texts(3, "test")}
    datasets.DatasetDict(splits).save_to_disk(tmp_path)
    units = units_of(Store(str(tmp_path)), "dataset")
    assert [unit.id for unit in units] == [
        *(f"test/data-00000-of-00001.arrow#{row}" for row in range(3)),
        *(f"train/data-00000-of-00001.arrow#{row}" for row in range(5)),
    ]
    assert [unit.medium for unit in units] == splits["test"]["text"][:] + splits["train"]["text"][:]


def test_images_of_a_saved_dataset_are_read(tmp_path: Path, folder: Store, units_of: UnitsOf, png: Png) -> None:
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    paths = [str(tmp_path / f"{number}.png") for number in range(6)]
    datasets.Dataset.from_dict({"image": paths}).cast_column("image", datasets.Image()).save_to_disk(tmp_path / "saved")
    copied(tmp_path / "saved", folder)
    units = units_of(folder, "dataset", medium="image", piece_units=2)
    for number, unit in enumerate(units):
        np.testing.assert_array_equal(unit.medium, decode_image(png(number)))
    assert len(units) == 6


def test_arrays_of_a_saved_dataset_are_read(tmp_path: Path, units_of: UnitsOf) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    features = datasets.Features({"inputs": datasets.Array2D((4, 3), "float32")})
    datasets.Dataset.from_dict({"inputs": list(values)}, features=features).save_to_disk(tmp_path)
    units = units_of(Store(str(tmp_path)), "dataset", medium="array")
    np.testing.assert_array_equal([unit.medium for unit in units], values)


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_record_batches_are_found_at_their_offsets(tmp_path: Path, units_of: UnitsOf, compression: str | None) -> None:
    table = pa.table({"text": [f"text {number}" * (number % 7) for number in range(100)]})
    data = stream(table, 30, options=pa.ipc.IpcWriteOptions(compression=compression))
    (tmp_path / "dataset.arrow").write_bytes(data)
    found = list(record_batches(io.BytesIO(data), len(data)))
    firsts = list(accumulate((batch.rows for batch in found), initial=0))[:-1]
    assert list(zip(firsts, (batch.rows for batch in found), strict=True)) == [(0, 30), (30, 30), (60, 30), (90, 10)]
    schema = pa.ipc.open_stream(data).schema
    for first, batch in zip(firsts, found, strict=True):
        part = pa.ipc.read_record_batch(pa.ipc.read_message(data[batch.offset : batch.offset + batch.size]), schema)
        assert part.equals(table.combine_chunks().slice(first, batch.rows).to_batches()[0])
    _, _, pieces = planned(str(tmp_path), piece_units=25)
    spans = [(piece.begin, piece.end, piece.first, piece.offset) for piece in pieces]
    one, two, three, four = (batch.offset for batch in found)
    assert spans == [
        *((0, 25, 0, one), (25, 30, 0, one), (30, 55, 30, two), (55, 60, 30, two)),
        *((60, 85, 60, three), (85, 90, 60, three), (90, 100, 90, four)),
    ]
    assert [unit.medium for unit in units_of(Store(str(tmp_path)), "dataset")] == table["text"].to_pylist()


def test_large_record_batches_are_cut_into_several_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables_module, "TABLE_PIECE_BYTES", 10_000)
    (tmp_path / "dataset.arrow").write_bytes(stream(pa.table({"text": ["x" * 1000] * 100}), 100))
    _, _, pieces = planned(str(tmp_path))
    assert [piece.units for piece in pieces] == [9] * 11 + [1]


def test_columns_with_dictionaries_are_read(tmp_path: Path, units_of: UnitsOf) -> None:
    values = [f"kind {number % 5}" for number in range(40)]
    table = pa.table({"text": pa.array(values).dictionary_encode(), "n": range(40)})
    (tmp_path / "dataset.arrow").write_bytes(stream(table, 15))
    units = units_of(Store(str(tmp_path)), "dataset", piece_units=4, keep=("text", "n"))
    assert [unit.medium for unit in units] == values
    assert [unit.kept["n"] for unit in units] == list(range(40))


def test_a_damaged_file_is_one_unit(tmp_path: Path, units_of: UnitsOf) -> None:
    whole = stream(pa.table({"text": [f"text {number}" for number in range(1000)]}), 100)
    for number, data in enumerate([whole[:-500], b"<html>moved</html>", b"", whole[:20], b"ARROW1\0\0" + whole[:-500]]):
        (tmp_path / f"data-0000{number}-of-00005.arrow").write_bytes(data)
    units = units_of(Store(str(tmp_path)), "dataset")
    assert [str(unit.error) for unit in units] == [
        "the file is an Arrow file that is truncated or damaged",
        "the file is an HTML file, not an Arrow file",
        "the file is an empty file (0 bytes), not an Arrow file",
        "the file is an Arrow file that is truncated or damaged",
        "the file is an Arrow file that is truncated or damaged",
    ]


def test_mutated_files_never_raise_and_keep_their_count(tmp_path: Path, units_of: UnitsOf) -> None:
    whole = stream(pa.table({"text": [f"text {number}" for number in range(100)]}), 25)
    draw = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for at in draw.integers(0, 700, 3):
            data[at] = draw.integers(0, 256)
        (tmp_path / "dataset.arrow").write_bytes(data)
        try:
            units_of(Store(str(tmp_path)), "dataset")  # which counts
        except AccessError as error:
            assert "dataset.arrow: " in str(error)  # noqa: PT017  a column that became another is one way to end


def test_columns_and_pickles_are_checked_as_in_parquet(tmp_path: Path) -> None:
    field = pa.field("p", pa.binary(), metadata={b"ARROW:extension:name": b"ray.data.arrow_pickled_object"})
    (tmp_path / "dataset.arrow").write_bytes(stream(pa.table([[b"x"]], schema=pa.schema([field])), 1))
    with pytest.raises(AccessError, match=r"dataset\.arrow: column 'p' has the type ray\.data"):
        planned(str(tmp_path), column="p")
    (tmp_path / "dataset.arrow").write_bytes(stream(pa.table({"text": [1]}), 1))
    with pytest.raises(AccessError, match=r"dataset\.arrow: column 'text' must hold text, got int64"):
        planned(str(tmp_path))


def test_ids_come_from_their_column_and_changed_files_are_errors(folder: Store) -> None:
    folder.put("dataset.arrow", stream(pa.table({"text": ["a", "b", "c"], "key": ["x", "y", None]}), 2))
    source, store, pieces = planned(folder.uri, id_column="key")
    assert [unit.id for piece in pieces for unit in decode_all(source.units(store, piece))] == [
        "x",
        "y",
        "dataset.arrow#2",
    ]
    assert list(source.ids(store, next(discover(folder.uri, source).entries))) == ["x", "y"]
    folder.put("dataset.arrow", stream(pa.table({"text": ["a"], "key": ["x"]}), 2))
    assert [type(unit.error) for piece in pieces for unit in decode_all(source.units(store, piece))] == [Changed] * 3
