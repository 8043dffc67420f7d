"""Tar archives, compared with tarfile: every sample is read once, and nothing is unpickled."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.sources import SOURCES, Unit, discover, source_for
from pipeline.sources import webdataset_source as webdataset_module
from pipeline.sources.images.image_decoding import decode_image
from pipeline.sources.source import SourceOptions
from pipeline.storage import AccessError, Changed, Missing, Store
from tests.decoded_units import decode_all

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "gz": gzip.compress,
    "tgz": gzip.compress,
    "zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
UnitsOf = Callable[..., list[Unit]]
Png = Callable[..., bytes]


def tar(members: list[tuple[str, bytes]], **options: Any) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", **options) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def some_samples(count: int) -> list[tuple[str, bytes]]:
    """Return samples of a text of 0 to 3,000 bytes, a label and a record, some with names that need an extra header."""
    members = []
    for number in range(count):
        name = f"folder.d/{'long-' * (30 if number % 5 == 0 else 0)}{number:04d}"
        text = f"text {number} ".encode() * (number * 37 % 300)
        members += [(f"{name}.cls", str(number).encode()), (f"{name}.TXT", text), (f"{name}.meta.json", b'{"a": 1}')]
    return members


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.zst", "a.tar.bz2", "a.tar.xz"])
@pytest.mark.parametrize("cut", [1, 10_000, 1 << 22])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_each_sample_is_one_unit_wherever_the_archive_is_cut(
    tmp_path: Path, units_of: UnitsOf, monkeypatch: pytest.MonkeyPatch, name: str, cut: int, form: int
) -> None:
    monkeypatch.setattr(webdataset_module, "ARCHIVE_PIECE_BYTES", cut)
    members = some_samples(70)
    data = tar(members, format=form)
    (tmp_path / name).write_bytes(COMPRESS[name.rpartition(".")[2]](data))
    units = units_of(Store(str(tmp_path)), "webdataset", keep=("cls", "meta.json"))
    assert [unit.medium for unit in units] == [content for member, content in members if member.endswith("TXT")]
    assert [unit.id for unit in units] == [f"{name}#{member[:-4]}" for member, _ in members if member.endswith("cls")]
    assert [unit.kept for unit in units] == [{"cls": str(number), "meta.json": '{"a": 1}'} for number in range(70)]


def test_archives_are_read_from_local_disk_and_s3(
    folder: Store, units_of: UnitsOf, png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset_module, "ARCHIVE_PIECE_BYTES", 2000)
    members = [(f"{number}.{'png' if number % 2 else 'jpg'}", png(number)) for number in range(12)]
    folder.put("s/shard #1?.tar", tar(members))
    units = units_of(folder, "webdataset", medium="image")
    for number, unit in enumerate(units):
        np.testing.assert_array_equal(unit.medium, decode_image(png(number)))
    assert [unit.id for unit in units] == [f"s/shard #1?.tar#{number}" for number in range(12)]


def test_pieces_hold_at_most_the_requested_number_of_samples(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(some_samples(20)))
    source = source_for("webdataset", SourceOptions(piece_units=6))
    found = discover(str(tmp_path), source)
    pieces = [piece for entry in found.entries for piece in source.pieces(found.store, entry)]
    assert [(piece.about, piece.units) for piece in pieces] == [(6, None), (6, None), (6, None), (2, None)]


def test_samples_hold_pairs_and_arrays(tmp_path: Path, units_of: UnitsOf, png: Png) -> None:
    def npy(array: np.ndarray, **options: Any) -> bytes:
        file = io.BytesIO()
        np.save(file, array, **options)
        return file.getvalue()

    array = np.arange(6, dtype=np.int16).reshape(3, 2)
    members = [("0.a.png", png(0)), ("0.b.png", png(1)), ("0.npy", npy(array)), ("0.json", b"[[1, 2], [3, 4]]")]
    members += [("1.a.png", png(0)), ("1.npy", npy(array[0])), ("1.json", b"{")]
    (tmp_path / "a.tar").write_bytes(tar(members))
    pair, single = units_of(Store(str(tmp_path)), "webdataset", medium="frame_pair", column="a.png,b.png")
    np.testing.assert_array_equal(pair.medium.frames, [decode_image(png(0)), decode_image(png(1))])
    assert "column b.png not found; the sample has a.png, npy, json" in str(single.error)
    good, flat = units_of(Store(str(tmp_path)), "webdataset", medium="array")
    np.testing.assert_array_equal(good.medium, array)
    assert "it must be [M, C]" in str(flat.error)
    good, broken = units_of(Store(str(tmp_path)), "webdataset", medium="array", column="json")
    np.testing.assert_array_equal(good.medium, [[1, 2], [3, 4]])
    assert broken.error is not None


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("column", ["pickle", "pkl", "pt", "pth", "out.PKL"])
@pytest.mark.parametrize("option", ["column", "id_column", "keep"])
def test_pickles_are_refused_by_their_names(column: str, option: str) -> None:
    with pytest.raises(ValueError, match="is a pickle, which runs code when it is read"):
        SOURCES["webdataset"].configured(SourceOptions(**{option: (column,) if option == "keep" else column}))  # type: ignore[arg-type]


def test_pickles_inside_members_are_not_loaded(tmp_path: Path, units_of: UnitsOf) -> None:
    proof = tmp_path / "proof"
    file = io.BytesIO()
    np.save(file, np.array([[Payload(proof)]], dtype=object), allow_pickle=True)
    pickled = pickle.dumps(Payload(proof))
    members = [("0.npy", file.getvalue()), ("0.pkl", pickled), ("0.pt", pickled), ("1.npy", pickled)]
    (tmp_path / "a.tar").write_bytes(tar(members))
    units = units_of(Store(str(tmp_path)), "webdataset", medium="array")
    assert ["pickle" in str(unit.error) for unit in units] == [True, True]
    assert not proof.exists()


def test_a_sample_without_the_column_or_too_large_does_not_affect_other_samples(
    tmp_path: Path, units_of: UnitsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset_module, "MAX_FILE_BYTES", 100)
    members = [("0.txt", b"zero"), ("1.cls", b"1"), ("2.txt", b"x" * 101), ("3.text", b"three"), ("3.cls", b"3")]
    (tmp_path / "a.tar").write_bytes(tar(members))
    units = units_of(Store(str(tmp_path)), "webdataset", keep=("cls",))
    assert [unit.medium for unit in units] == [b"zero", None, None, b"three"]
    assert [unit.kept.get("cls") for unit in units] == [None, None, None, "3"]
    assert "column txt or text not found; the sample has cls" in str(units[1].error)
    assert "txt has 101 bytes, at most 100 are read" in str(units[2].error)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"medium": "image"}, r"a\.tar: column 'jpg or jpeg or .*' not found; available columns: cls, txt"),
        ({"column": "body"}, r"a\.tar: column 'body' not found; available columns: cls, txt"),
        ({"id_column": "key"}, r"a\.tar: column 'key' not found"),
        ({"keep": ("json",)}, r"a\.tar: column 'json' not found"),
    ],
)
def test_a_column_that_no_sample_has_fails_the_plan(
    tmp_path: Path, units_of: UnitsOf, options: dict[str, Any], words: str
) -> None:
    (tmp_path / "a.tar").write_bytes(tar([("0.txt", b"zero"), ("1.cls", b"1")]))
    with pytest.raises(AccessError, match=words):
        units_of(Store(str(tmp_path)), "webdataset", **options)
    if "keep" in options:
        source = source_for("webdataset", SourceOptions(**options))
        found = discover(str(tmp_path), source)
        with pytest.raises(AccessError, match=words):
            source.kept(found.store, next(found.entries))


def test_a_duplicate_sample_fails_the_plan(tmp_path: Path, units_of: UnitsOf) -> None:
    (tmp_path / "a.tar").write_bytes(tar([("a/0.txt", b"zero"), ("a/1.txt", b"one"), ("a/0.cls", b"0")]))
    with pytest.raises(AccessError, match=r"a\.tar: 'a/0' exists twice, at byte 0 and at byte 2048"):
        units_of(Store(str(tmp_path)), "webdataset")
    (tmp_path / "a.tar").write_bytes(tar([("0.txt", b"zero"), ("0.TXT", b"one")]))
    with pytest.raises(AccessError, match=r"a\.tar: '0\.txt' exists twice"):
        units_of(Store(str(tmp_path)), "webdataset")


def test_ids_come_from_their_column(tmp_path: Path, units_of: UnitsOf) -> None:
    members = [("0.txt", b"zero"), ("0.id", b"first\n"), ("1.txt", b"one"), ("2.txt", b"two"), ("2.id", b"third")]
    (tmp_path / "a.tar").write_bytes(tar(members))
    units = units_of(Store(str(tmp_path)), "webdataset", id_column="id")
    assert [unit.id for unit in units] == ["first", "a.tar#1", "third"]
    source = source_for("webdataset", SourceOptions(id_column="id"))
    found = discover(str(tmp_path), source)
    assert list(source.ids(found.store, next(found.entries))) == ["first", "third"]


def test_a_damaged_archive_is_one_unit(tmp_path: Path, units_of: UnitsOf) -> None:
    whole = tar(some_samples(50))
    header = whole.index(b"folder.d/0041.cls".ljust(100, b"\0"))
    wrong = whole[:header] + b"\x01" * 512 + whole[header + 512 :]
    files = {
        "a.tar": whole[:50_000],
        "b.tar": wrong,
        "c.tar": b"<html>",
        "d.tar": b"",
        "e.tgz": gzip.compress(whole)[:-900],
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "f.tar").write_bytes(tar([]))
    units = units_of(Store(str(tmp_path)), "webdataset")
    assert [unit.id for unit in units] == list(files)
    assert {str(unit.error) for unit in units} == {"the archive could not be read to its end when it was planned"}


def test_a_changed_or_deleted_archive_is_an_error_of_each_piece(folder: Store) -> None:
    folder.put("a.tar", tar([("0.txt", b"zero")]))
    source = source_for("webdataset")
    found = discover(folder.uri, source)
    (piece,) = [piece for entry in found.entries for piece in source.pieces(found.store, entry)]
    folder.put("a.tar", tar([("0.txt", b"0000")]))
    (unit,) = decode_all(source.units(found.store, piece))
    assert (unit.id, type(unit.error)) == ("a.tar#0", Changed)
    folder.delete("a.tar")
    (unit,) = decode_all(source.units(found.store, piece))
    assert type(unit.error) is Missing


def test_a_sample_with_an_empty_id_is_an_error(tmp_path: Path, units_of: UnitsOf) -> None:
    (tmp_path / "a.tar").write_bytes(tar([("0.txt", b"zero"), ("0.key", b"k"), ("1.txt", b"one"), ("1.key", b" \n")]))
    named, without = units_of(Store(str(tmp_path)), "webdataset", id_column="key")
    assert (named.id, without.id) == ("k", "a.tar#1")
    assert "column 'key' holds no id" in str(without.error)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
@pytest.mark.parametrize("cut", [1, 1 << 22])
def test_archives_that_were_joined_are_read_to_their_end(
    tmp_path: Path, units_of: UnitsOf, monkeypatch: pytest.MonkeyPatch, name: str, cut: int
) -> None:
    monkeypatch.setattr(webdataset_module, "ARCHIVE_PIECE_BYTES", cut)
    members = [(f"{number}.txt", f"text {number}".encode()) for number in range(9)]
    parts = [tar(members[:3]), tar([]), tar(members[3:5], format=tarfile.GNU_FORMAT), bytes(5120), tar(members[5:])]
    (tmp_path / name).write_bytes(COMPRESS[name.rpartition(".")[2]](b"".join(parts) + b"not a header" * 100))
    units = units_of(Store(str(tmp_path)), "webdataset")
    assert [unit.medium for unit in units] == [content for _, content in members]
    assert [unit.id for unit in units] == [f"{name}#{number}" for number in range(9)]


def test_a_damaged_second_archive_is_one_unit(tmp_path: Path, units_of: UnitsOf) -> None:
    (tmp_path / "a.tar").write_bytes(tar([("0.txt", b"zero")]) + tar([("1.txt", b"one" * 1000)])[:2000])
    (unit,) = units_of(Store(str(tmp_path)), "webdataset")
    assert "the archive could not be read to its end" in str(unit.error)


def test_a_name_with_dots_is_explained(tmp_path: Path, units_of: UnitsOf, png: Png) -> None:
    rule = "the column of a member is what follows the first dot of its file name"
    (tmp_path / "a.tar").write_bytes(tar([("21.05.png", png(1)), ("plain.png", png(2)), ("other.cls", b"1")]))
    dotted, plain, other = units_of(Store(str(tmp_path)), "webdataset", medium="image")
    assert str(dotted.error).endswith(f"the sample has 05.png; {rule}")
    assert plain.error is None
    assert rule not in str(other.error)
    (tmp_path / "a.tar").write_bytes(tar([("21.05.png", png(1))]))
    with pytest.raises(AccessError, match=rule):
        units_of(Store(str(tmp_path)), "webdataset", medium="image")


def test_member_name_that_is_not_utf8_is_escaped_in_the_id(tmp_path: Path, units_of: UnitsOf) -> None:
    members = [("caf\xe9.txt", b"one"), ("b.txt", b"two")]
    (tmp_path / "a.tar").write_bytes(tar(members, format=tarfile.GNU_FORMAT, encoding="latin-1"))
    units = units_of(Store(str(tmp_path)), "webdataset")
    assert [(unit.id, unit.medium) for unit in units] == [(r"a.tar#caf\xe9", b"one"), ("a.tar#b", b"two")]
