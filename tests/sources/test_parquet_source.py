"""Parquet files, compared with pyarrow: every row is read once, kept columns keep their types, nothing is unpickled."""

from __future__ import annotations

import datetime
import io
import os
import pickle
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from pipeline.media import BadMedium
from pipeline.sources import Piece, Source, Unit, discover, source_for
from pipeline.sources.images.image_decoding import decode_image
from pipeline.sources.source import SourceOptions
from pipeline.sources.tables import table_reader as tables_module
from pipeline.storage import AccessError, Changed, Missing, StorageError, Store
from tests.decoded_units import decode_all

UnitsOf = Callable[..., list[Unit]]
Png = Callable[..., bytes]


def encode(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def texts(count: int) -> pa.Table:
    """Return a table of texts and columns of many types."""
    numbers = list(range(count))
    return pa.table(
        {
            "text": [f"text {number} ö" for number in numbers],
            "number": pa.array(numbers, pa.int16()),
            "day": pa.array([None if n % 3 else datetime.date(2026, 1, 1 + n % 28) for n in numbers], pa.date32()),
            "at": pa.array(numbers, pa.timestamp("ns", tz="UTC")),
            "nested": [{"a": [n, None], "b": {"c": str(n)}} for n in numbers],
            "map": pa.array([[("k", n)] for n in numbers], pa.map_(pa.string(), pa.int64())),
            "kind": pa.array([f"kind {n % 3}" for n in numbers]).dictionary_encode(),
        }
    )


def planned(uri: str, **options: Any) -> tuple[Source, Store, list[Piece]]:
    source = source_for("parquet", SourceOptions(**options))
    found = discover(uri, source)
    return source, found.store, [piece for entry in found.entries for piece in source.pieces(found.store, entry)]


@pytest.mark.parametrize(
    ("folder", "piece_units"), [*(("local", units) for units in (None, 1, 7, 1000)), ("s3", 7)], indirect=["folder"]
)
def test_each_row_is_one_unit_and_keeps_its_types(folder: Store, units_of: UnitsOf, piece_units: int | None) -> None:
    table = texts(50)
    folder.put("a/#1 ?.parquet", encode(table, row_group_size=20))
    keep = tuple(table.column_names[1:])
    units = units_of(folder, "parquet", keep=keep, piece_units=piece_units)
    assert [unit.id for unit in units] == [f"a/#1 ?.parquet#{row}" for row in range(50)]
    assert [unit.medium for unit in units] == table["text"].to_pylist()
    source, store, _ = planned(folder.uri, keep=keep)
    schema = source.kept(store, next(discover(folder.uri, source).entries))
    assert schema.names == list(keep)
    for name in keep:
        expected = table[name].cast(pa.string()) if name == "kind" else table[name]
        assert schema.field(name).type == expected.type
        assert pa.array([unit.kept[name] for unit in units], expected.type).equals(expected.combine_chunks())


def test_pieces_are_rows_of_one_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(encode(texts(50), row_group_size=20))
    _, _, pieces = planned(str(tmp_path), piece_units=15)
    spans = [(piece.begin, piece.end, piece.first, piece.units) for piece in pieces]
    assert spans == [(0, 15, 0, 15), (15, 20, 0, 5), (20, 35, 20, 15), (35, 40, 20, 5), (40, 50, 40, 10)]
    table = pa.table({"text": ["x" * 1000] * 100, "other": ["y" * 100_000] * 100})
    (tmp_path / "a.parquet").write_bytes(encode(table, use_dictionary=False))
    monkeypatch.setattr(tables_module, "TABLE_PIECE_BYTES", 10_000)
    _, _, pieces = planned(str(tmp_path))
    assert {piece.units for piece in pieces} <= {9, 10, 1}  # by the bytes of the column that is read
    assert 90_000 < sum(piece.weight or 0 for piece in pieces) < 110_000


def test_images_stored_by_datasets_are_read(folder: Store, units_of: UnitsOf, png: Png) -> None:
    images = [{"bytes": png(0), "path": "0.png"}, {"bytes": None, "path": "1.png"}, {"bytes": b"<html>", "path": None}]
    folder.put("t/1.png", png(1))
    folder.put("t/a.parquet", encode(pa.table({"image": [*images, None], "raw": [png(2)] * 4})))
    first, second, page, nothing = units_of(folder, "parquet", medium="image")
    np.testing.assert_array_equal(first.medium, decode_image(png(0)))
    np.testing.assert_array_equal(second.medium, decode_image(png(1)))
    assert "an HTML file is not an image" in str(page.error)
    assert "column 'image' must hold an image, got null" in str(nothing.error)
    pairs = units_of(folder, "parquet", medium="frame_pair", column="image,raw")
    np.testing.assert_array_equal(pairs[1].medium.frames, [decode_image(png(1)), decode_image(png(2))])
    assert [unit.medium and unit.medium.frame_index for unit in pairs] == [0, 1, None, None]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.list_(pa.float64())),
        pa.large_list(pa.large_list(pa.float32())),
        pa.list_(pa.list_(pa.float16(), 3), 2),
        pa.list_(pa.list_(pa.int8())),
    ],
)
def test_arrays_of_any_list_type_are_read(tmp_path: Path, units_of: UnitsOf, kind: pa.DataType) -> None:
    values = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]
    arrays = np.array(values, np.float16)
    (tmp_path / "a.parquet").write_bytes(encode(pa.table({"inputs": pa.array(list(map(list, arrays)), kind)})))
    units = units_of(Store(str(tmp_path)), "parquet", medium="array")
    np.testing.assert_array_equal([unit.medium for unit in units], values)
    assert units[0].medium.dtype == np.float32


def test_invalid_arrays_are_errors_of_their_rows_only(tmp_path: Path, units_of: UnitsOf) -> None:
    values = [[[1.0], [2.0]], [[1.0], [2.0, 3.0]], None, [None, [1.0]], [[None]], [[5.0]]]
    (tmp_path / "a.parquet").write_bytes(encode(pa.table({"inputs": values})))
    units = units_of(Store(str(tmp_path)), "parquet", medium="array")
    assert [unit.error is None for unit in units] == [True, False, False, False, False, True]
    assert "different lengths" in str(units[1].error)


def test_invalid_utf8_reaches_the_tokenizer_and_is_replaced_in_rows(tmp_path: Path, units_of: UnitsOf) -> None:
    bad = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 3, 6], np.int32)), pa.py_buffer(b"b\xffdfin")]
    )
    (tmp_path / "a.parquet").write_bytes(encode(pa.table({"text": bad, "raw": [b"\xff", b"x"]})))
    units = units_of(Store(str(tmp_path)), "parquet", keep=("text", "raw"))
    assert [unit.medium.encode("utf-8", "surrogateescape") for unit in units] == [b"b\xffd", b"fin"]
    assert [unit.kept for unit in units] == [{"text": "b\ufffdd", "raw": b"\xff"}, {"text": "fin", "raw": b"x"}]


def test_ids_come_from_their_column(tmp_path: Path, units_of: UnitsOf) -> None:
    table = pa.table({"text": ["a", "b", "c"], "key": pa.array([7, None, 9])})
    (tmp_path / "a.parquet").write_bytes(encode(table))
    units = units_of(Store(str(tmp_path)), "parquet", id_column="key")
    assert [unit.id for unit in units] == ["7", "a.parquet#1", "9"]
    assert str(units[1].error) == "column 'key' holds no id"
    source = source_for("parquet", SourceOptions(id_column="key"))
    found = discover(str(tmp_path), source)
    assert list(source.ids(found.store, next(found.entries))) == ["7", "9"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"column": "body"}, r"a\.parquet: column 'body' not found; available columns: text, n, l, l"),
        ({"column": "n"}, r"a\.parquet: column 'n' must hold text, got int64"),
        ({"medium": "image", "column": "n"}, r"a\.parquet: column 'n' must hold images, got int64"),
        ({"medium": "array", "column": "n"}, r"a\.parquet: column 'n' must hold an array of two dimensions, got int64"),
        ({"id_column": "key"}, r"a\.parquet: column 'key' not found"),
        ({"keep": ("key",)}, r"a\.parquet: column 'key' not found"),
        ({"keep": ("l",)}, r"a\.parquet: 2 columns are named 'l'"),
    ],
)
def test_a_column_that_is_missing_or_of_another_type_fails_the_plan(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    table = pa.table([["a"], [1], ["x"], ["y"]], names=["text", "n", "l", "l"])
    (tmp_path / "a.parquet").write_bytes(encode(table))
    with pytest.raises(AccessError, match=words):
        planned(str(tmp_path), **options)
    if "keep" in options:
        source = source_for("parquet", SourceOptions(**options))
        found = discover(str(tmp_path), source)
        with pytest.raises(AccessError, match=words):
            source.kept(found.store, next(found.entries))


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("known", [False, True])
def test_pickles_in_a_table_are_refused_and_not_run(tmp_path: Path, known: bool) -> None:
    if known:
        import ray.data  # noqa: F401  which registers a type that unpickles
    proof, name = tmp_path / "proof", b"ray.data.arrow_pickled_object"
    field = pa.field("p", pa.large_binary(), metadata={b"ARROW:extension:name": name, b"ARROW:extension:metadata": b""})
    pickled = pa.array([pickle.dumps(Payload(proof))], pa.large_binary())
    nested = pa.StructArray.from_arrays([pickled], fields=[field])
    for column, kind in ((pickled, field), (nested, pa.field("p", nested.type))):
        table = pa.table([pa.array(["a"]), column], schema=pa.schema([pa.field("text", pa.string()), kind]))
        (tmp_path / "a.parquet").write_bytes(encode(table))
        for options in ({}, {"keep": ("p",)}, {"column": "p"}, {"id_column": "p"}):
            with pytest.raises(AccessError, match=r"column 'p' has the type ray\.data\.arrow_pickled_object"):
                planned(str(tmp_path), **options)
    assert not proof.exists()


def test_other_extension_types_are_refused_if_they_are_requested(tmp_path: Path, units_of: UnitsOf) -> None:
    field = pa.field("t", pa.string(), metadata={b"ARROW:extension:name": b"someone.type"})
    (tmp_path / "a.parquet").write_bytes(
        encode(pa.table([["a"], ["b"]], schema=pa.schema([("text", pa.string()), field])))
    )
    assert [unit.medium for unit in units_of(Store(str(tmp_path)), "parquet")] == ["a"]
    with pytest.raises(AccessError, match=r"column 't' has the type someone\.type"):
        planned(str(tmp_path), column="t")


def test_a_damaged_file_is_one_unit(tmp_path: Path, units_of: UnitsOf) -> None:
    whole = encode(texts(50))
    (tmp_path / "a.parquet").write_bytes(whole[:-100])
    (tmp_path / "b.parquet").write_bytes(b"<html>moved</html>")
    (tmp_path / "c.parquet").write_bytes(b"")
    (tmp_path / "d.parquet").write_bytes(encode(texts(2)))
    (tmp_path / "e.parquet").write_bytes(encode(texts(0)))
    cut, page, empty, *rest = units_of(Store(str(tmp_path)), "parquet")
    assert str(cut.error) == "the file is a Parquet file that is truncated or damaged"
    assert str(page.error) == "the file is an HTML file, not a Parquet file"
    assert str(empty.error) == "the file is an empty file (0 bytes), not a Parquet file"
    assert [unit.id for unit in rest] == ["d.parquet#0", "d.parquet#1"]


def test_damaged_rows_give_as_many_errors_as_planned(tmp_path: Path, units_of: UnitsOf) -> None:
    table = pa.table({"text": [f"{number:0100d}" for number in range(2000)]})
    data = bytearray(encode(table, row_group_size=500, compression="zstd", use_dictionary=False))
    second = pq.read_metadata(io.BytesIO(data)).row_group(1).column(0)
    begin = second.data_page_offset
    data[begin : begin + second.total_compressed_size] = bytes(second.total_compressed_size)
    (tmp_path / "a.parquet").write_bytes(data)
    units = units_of(Store(str(tmp_path)), "parquet", piece_units=100)
    assert [unit.id for unit in units] == [f"a.parquet#{row}" for row in range(2000)]
    assert [row for row, unit in enumerate(units) if unit.error] == list(range(500, 1000))


def test_a_changed_or_deleted_file_is_an_error_of_each_row(folder: Store) -> None:
    folder.put("a.parquet", encode(texts(3)))
    source, store, (piece,) = planned(folder.uri)
    folder.put("a.parquet", encode(texts(4)))
    assert [type(unit.error) for unit in decode_all(source.units(store, piece))] == [Changed] * 3
    folder.delete("a.parquet")
    assert [type(unit.error) for unit in decode_all(source.units(store, piece))] == [Missing] * 3


def test_a_failing_store_is_not_reported_as_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(encode(texts(3)))
    source, store, (piece,) = planned(str(tmp_path))

    class Failing(io.BytesIO):
        error: Exception = StorageError("no answer", transient=True)

        def read(self, *_: Any) -> bytes:
            raise self.error

    monkeypatch.setattr(Store, "open", lambda *_, **__: Failing(encode(texts(3))))
    assert [str(unit.error) for unit in decode_all(source.units(store, piece))] == ["no answer"] * 3
    with pytest.raises(StorageError, match="no answer"):
        planned(str(tmp_path))
    Failing.error = AccessError("token expired")
    with pytest.raises(AccessError, match="token expired"):
        decode_all(source.units(store, piece))


class Hub(MemoryFileSystem):
    """Answers as the file system of the Hugging Face hub does: listings without times, each file with its digests."""

    protocol = "hf"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        found = [_as_hub(info) for info in super().ls(path, detail=True)]
        return found if detail else [info["name"] for info in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return _as_hub(super().info(path))

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("hf://").strip("/")


def _as_hub(info: dict[str, Any]) -> dict[str, Any]:
    name = info["name"].lstrip("/")
    if info["type"] == "directory":
        return {"name": name, "type": "directory", "size": 0, "tree_id": "t"}
    return {"name": name, "type": "file", "size": info["size"], "blob_id": f"blob-{info['size']}", "lfs": None}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """What `hf://` means during the test."""
    monkeypatch.setitem(_registry, "hf", Hub)
    return Hub(skip_instance_cache=True)


def test_datasets_of_the_hub_are_read_by_their_uri(hub: Hub, units_of: UnitsOf, png: Png) -> None:
    name = f"org-{uuid.uuid4().hex[:6]}/images"
    images = [{"bytes": png(number), "path": f"{number}.png"} for number in range(10)]
    table = pa.table({"image": images, "label": list(range(10))})
    hub.pipe_file(f"datasets/{name}/data/train-00000-of-00001.parquet", encode(table, row_group_size=4))
    for uri in (f"hf://datasets/{name}", f"hf://datasets/{name}/data"):
        units = units_of(Store(uri), "parquet", medium="image", keep=("label",))
        for number, unit in enumerate(units):
            np.testing.assert_array_equal(unit.medium, decode_image(png(number)))
        assert [unit.kept["label"] for unit in units] == list(range(10))
        assert units[0].uri == f"hf://datasets/{name}/data/train-00000-of-00001.parquet"
        assert units[0].version.startswith("blob-")
    assert not any(isinstance(unit.error, BadMedium) for unit in units)
