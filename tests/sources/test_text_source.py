"""Texts in files: every line and record is read once, wherever files are cut, and its id is its place in the file."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.sources import IMAGES, SOURCES, Source, SourceOptions, Unit, discover, source_for
from pipeline.sources.images.image_decoding import decode_image
from pipeline.sources.text import line_reader as lines_module
from pipeline.sources.text_source import JSONL, TEXT
from pipeline.storage import AccessError, Changed, Missing, Store
from tests.decoded_units import decode_all

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def texts(count: int) -> list[bytes]:
    """Return lines of 0 to 60 bytes, some empty, without line feeds."""
    draw = np.random.default_rng(count)
    return [bytes(draw.integers(32, 127, size, np.uint8)) for size in draw.integers(0, 61, count)]


def read(uri: Path | str, source: Source = TEXT) -> list[Unit]:
    """The units of all pieces, in plan order."""
    found = discover(str(uri), source)
    pieces = [piece for entry in found.entries for piece in source.pieces(found.store, entry)]
    pieces = pickle.loads(pickle.dumps(pieces))
    return [unit for piece in pieces for unit in decode_all(source.units(found.store, piece))]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("cut", [1, 7, 64, 1000, 1 << 20])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_each_line_is_one_unit_wherever_the_file_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, cut: int, ending: bytes
) -> None:
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", cut)
    content = texts(60)
    data = ending.join(content)
    (tmp_path / f"a.txt{suffix}").write_bytes(COMPRESS[suffix](data))
    units = read(tmp_path)
    assert [unit.medium for unit in units] == content
    offsets = [int(unit.id.removeprefix(f"a.txt{suffix}#")) for unit in units]
    assert all(data[at:].startswith(line) for at, line in zip(offsets, content, strict=True))
    assert len(set(offsets)) == len(content)
    assert {unit.uri for unit in units} == {f"{tmp_path}/a.txt{suffix}"}


def test_a_large_file_is_cut_by_its_first_64_kib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_bytes(b"x\n" * (1 << 20))
    start = io.BytesIO((tmp_path / "a.txt").read_bytes()[: 1 << 16])
    monkeypatch.setattr(Store, "open", lambda *_, **__: io.BytesIO(start.getvalue()))
    found = discover(str(tmp_path), TEXT)
    pieces = [piece for entry in found.entries for piece in TEXT.pieces(found.store, entry)]
    assert [(piece.begin, piece.end) for piece in pieces] == [(at << 18, (at + 1) << 18) for at in range(8)]


def test_a_compressed_file_has_at_most_64_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", 10)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"some line\n" * 1000))
    found = discover(str(tmp_path), TEXT)
    pieces = [piece for entry in found.entries for piece in TEXT.pieces(found.store, entry)]
    assert len(pieces) == 63
    assert (pieces[0].begin, pieces[-1].end) == (0, 10_000)
    assert len(read(tmp_path)) == 1000


def test_compressed_files_of_several_members_are_read_to_their_end(tmp_path: Path) -> None:
    for suffix in (".gz", ".zst"):
        (tmp_path / f"a.txt{suffix}").write_bytes(COMPRESS[suffix](b"one\ntw") + COMPRESS[suffix](b"o\nthree"))
    assert [unit.medium for unit in read(tmp_path)] == [b"one", b"two", b"three"] * 2


def test_empty_lines_byte_order_marks_and_empty_files_are_handled(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbffirst\n\n\xef\xbb\xbflast\n")
    (tmp_path / "b.txt").write_bytes(b"")
    (tmp_path / "c.txt").write_bytes(b"\n")
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b""))
    units = [(unit.id, unit.medium) for unit in read(tmp_path)]
    assert units == [("a.txt#0", b"first"), ("a.txt#9", b""), ("a.txt#10", b"\xef\xbb\xbflast"), ("c.txt#0", b"")]


def test_a_line_that_is_too_long_does_not_affect_other_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", 50)
    (tmp_path / "a.txt").write_bytes(b"before\n" + b"x" * 1000 + b"\nafter\n")
    before, long, after = read(tmp_path)
    assert (before.medium, after.medium) == (b"before", b"after")
    assert "the line has more than" in str(long.error)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_records_give_their_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", 100)
    content = ["größer", "", "two\nlines", "🙂 \ud800"]
    records = [json.dumps({"text": "no", "body": text, "n": 1}) for text in content]
    (tmp_path / f"a.JSONL{suffix}").write_bytes(COMPRESS[suffix]("\n \n".join(records).encode()))
    units = read(tmp_path, source_for("text", SourceOptions(column="body")))
    assert [unit.medium for unit in units] == content
    assert [unit.medium for unit in read(tmp_path)] == ["no"] * 4
    assert units[1].id == f"a.JSONL{suffix}#{len(records[0]) + 3}"


def test_a_file_with_any_name_can_hold_records(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text('{"text": "one"}\n{"text": "two"}\n')
    assert [unit.medium for unit in read(tmp_path / "*.log", JSONL)] == ["one", "two"]
    assert [unit.medium for unit in read(tmp_path / "*.log", TEXT)] == [b'{"text": "one"}', b'{"text": "two"}']


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"no json", "Expecting value"),
        (b'{"text": "\xff"}', "utf-8"),
        (b"[1]", "must be a JSON object, got list"),
        (b'{"other": "a"}', "column 'text' not found; the record has other"),
        (b'{"text": 1}', "column 'text' must hold text, got int"),
        (b"[" * 200_000, "recursion"),
    ],
)
def test_a_bad_record_does_not_affect_other_records(tmp_path: Path, line: bytes, words: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\n' + line + b'\n{"text": "two"}\n')
    one, bad, two = read(tmp_path)
    assert (one.medium, two.medium) == ("one", "two")
    assert words in str(bad.error)


def test_a_missing_column_fails_the_plan(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\n{"text": "one"}\n')
    with pytest.raises(AccessError, match=r"a\.jsonl: column 'body' not found; the record has text"):
        read(tmp_path, source_for("text", SourceOptions(column="body")))
    (tmp_path / "a.jsonl").write_text('{"text": 3}\n')
    with pytest.raises(AccessError, match=r"a\.jsonl: column 'text' must hold text, got int"):
        read(tmp_path)
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "a.txt").write_text("a line\n")
    with pytest.raises(AccessError, match=r"a\.txt: column 'body' not found; lines of text have no columns"):
        read(tmp_path, source_for("text", SourceOptions(column="body")))
    with pytest.raises(ValueError, match="the files have no columns"):
        source_for(IMAGES.name, SourceOptions(medium="image", column="body"))


def test_a_first_record_without_the_text_does_not_affect_other_records(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": 3}\n{"other": 1}\n{"text": "one"}\n{"text": null}\n')
    number, lacking, one, null = read(tmp_path)
    assert "column 'text' must hold text, got int" in str(number.error)
    assert null.medium == ""
    assert "column 'text' not found; the record has other" in str(lacking.error)
    assert one.medium == "one"


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_damaged_compressed_file_is_one_unit(tmp_path: Path, suffix: str, name: str) -> None:
    whole = COMPRESS[suffix](json.dumps({"text": "".join(map(str, range(5000)))}).encode())
    (tmp_path / (name + suffix)).write_bytes(whole[: len(whole) // 2])
    (tmp_path / ("b.txt" + suffix)).write_bytes(b"not compressed at all")
    damaged, never = read(tmp_path)
    assert (damaged.id, never.id) == (name + suffix, "b.txt" + suffix)
    assert "could not be decompressed" in str(damaged.error)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_changed_or_deleted_file_is_an_error_of_each_piece(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(COMPRESS[suffix](b"one\n"))
    found = discover(str(tmp_path), TEXT)
    (piece,) = [piece for entry in found.entries for piece in TEXT.pieces(found.store, entry)]
    path.write_bytes(COMPRESS[suffix](b"two\n"))
    (unit,) = decode_all(TEXT.units(found.store, piece))
    assert (unit.id, type(unit.error)) == (f"a.txt{suffix}#0", Changed)
    path.unlink()
    (unit,) = decode_all(TEXT.units(found.store, piece))
    assert type(unit.error) is Missing


def test_a_folder_gives_texts_by_their_extension(tmp_path: Path) -> None:
    for name in ("a.txt", "b.TXT.GZ", "c.ndjson.zst", "d.gz", "e.csv", "f.txt.bz2"):
        (tmp_path / name).write_bytes(b"")
    names = ["a.txt", "b.TXT.GZ", "c.ndjson.zst", "f.txt.bz2"]
    assert [entry.key for entry in discover(str(tmp_path), TEXT).entries] == names
    assert [entry.key for entry in discover(str(tmp_path), JSONL).entries] == ["c.ndjson.zst"]
    assert {"text", "jsonl"} <= SOURCES.keys()


def test_lines_are_read_from_s3(s3, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", 300)
    uri = s3.bucket("texts")
    content = texts(50)
    for suffix, pack in COMPRESS.items():
        key = f"logs/a.txt{suffix}"
        s3.client.put_object(Bucket=uri.removeprefix("s3://"), Key=key, Body=pack(b"\n".join(content)))
    units = read(f"{uri}/logs")
    assert [unit.medium for unit in units] == content * len(COMPRESS)
    assert units[0].uri == f"{uri}/logs/a.txt"


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_whole_file_can_be_one_text(
    folder: Store, units_of: Callable[..., list[Unit]], monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 1000)
    contents = {"a.txt": b"one\r\ntwo\n", "b.txt": b"", "c.txt": b"\xef\xbb\xbfthree", "d.txt": b"x" * 1000}
    for key, data in contents.items():
        folder.put(key + suffix, COMPRESS[suffix](data))
    folder.put("e.txt" + suffix, COMPRESS[suffix](b"x" * 1001))
    folder.put("f.jsonl", b'{"text": "a record"}\n{"text": "another"}\n')
    *texts, long, record, other = units_of(folder, "text", text_unit="file")
    assert [unit.id for unit in texts] == [key + suffix for key in contents]
    assert [unit.medium for unit in texts] == [b"one\r\ntwo\n", b"", b"three", b"x" * 1000]
    assert str(long.error) == "the text has more than 1,000 bytes"
    assert [record.medium, other.medium] == ["a record", "another"]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_whole_file_that_is_damaged_or_deleted_is_one_unit(
    tmp_path: Path, units_of: Callable[..., list[Unit]], suffix: str
) -> None:
    (tmp_path / f"a.txt{suffix}").write_bytes(COMPRESS[suffix](bytes(range(256)) * 100)[:-20])
    (unit,) = units_of(Store(str(tmp_path)), "text", text_unit="file")
    assert (unit.id, unit.medium) == (f"a.txt{suffix}", None)
    assert unit.error is not None


@pytest.mark.parametrize("suffix", COMPRESS)
def test_records_have_ids_and_columns_to_keep(
    folder: Store, units_of: Callable[..., list[Unit]], monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", 60)
    records = [
        {"text": "one", "key": "a", "note": "größer"},
        {"text": "two", "key": 2, "note": {"b": [1, None, "ö"]}},
        {"text": "three", "key": "c", "note": None},
        {"text": "four", "key": "d\ud800"},
        {"text": "five", "note": True},
    ]
    lines = [json.dumps(record) for record in records]
    folder.put(f"a.jsonl{suffix}", COMPRESS[suffix]("\n".join(lines).encode()))
    units = units_of(folder, "jsonl", id_column="key", keep=("note",))
    assert [unit.id for unit in units[:4]] == ["a", "2", "c", "d\ufffd"]
    assert [unit.kept["note"] for unit in units[:4]] == ["größer", '{"b": [1, null, "ö"]}', None, None]
    assert units[4].id == f"a.jsonl{suffix}#{len(' '.join(lines[:4])) + 1}"
    assert str(units[4].error) == "column 'key' holds no id"
    source = source_for("jsonl", SourceOptions(id_column="key", keep=("note",)))
    found = discover(folder.uri, source)
    entry = next(found.entries)
    assert list(source.ids(found.store, entry)) == ["a", "2", "c", "d\ufffd"]
    assert source.kept(found.store, entry) == pa.schema([("note", pa.string())])


@pytest.mark.parametrize("options", [{"id_column": "key"}, {"keep": ("key",)}])
def test_a_missing_id_or_kept_column_fails_the_plan(
    tmp_path: Path, units_of: Callable[..., list[Unit]], options: dict[str, Any]
) -> None:
    for name, data, words in (
        (
            "a.jsonl",
            '{"text": "one"}\n{"text": "two", "n": 1}\n',
            r"a\.jsonl: column 'key' not found; available columns: text, n",
        ),
        ("b.txt", "a line\n", r"b\.txt: column 'key' not found; lines of text have no columns"),
    ):
        (tmp_path / name).write_text(data)
        source = source_for("text", SourceOptions(**options))
        found = discover(str(tmp_path / name), source)
        entry = next(found.entries)
        with pytest.raises(AccessError, match=words):
            list(source.pieces(found.store, entry)) if "id_column" in options else source.kept(found.store, entry)


def test_records_hold_images_pairs_and_arrays(
    folder: Store, units_of: Callable[..., list[Unit]], png: Callable[..., bytes]
) -> None:
    folder.put("in/1.png", png(1))
    folder.put("in/sub/2.png", png(2))
    record = {"image": "1.png", "next": {"path": "sub/2.png"}, "inputs": [[1, 2], [3, 4.5]]}
    other = {"image": base64.b64encode(png(1)).decode(), "next": "../x.png", "inputs": [1, 2]}
    folder.put("in/a.jsonl", f"{json.dumps(record)}\n{json.dumps(other)}\n".encode())
    one, two = decode_image(png(1)), decode_image(png(2))
    image, not_image = units_of(folder, "jsonl", medium="image")
    np.testing.assert_array_equal(image.medium, one)
    assert not_image.error is not None
    pair, no_pair = units_of(folder, "jsonl", medium="frame_pair", column="image,next")
    np.testing.assert_array_equal(pair.medium.frames, [one, two])
    assert (pair.medium.frame_index, pair.medium.start_seconds) == (0, None)
    assert no_pair.error is not None
    array, flat = units_of(folder, "jsonl", medium="array")
    np.testing.assert_array_equal(array.medium, np.array([[1, 2], [3, 4.5]], np.float32))
    assert "it must be [M, C]" in str(flat.error)


def test_a_piece_estimates_its_lines_and_an_empty_file_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"0123456789\n" * 30_000)
    (tmp_path / "b.txt").write_bytes(b"short")
    (tmp_path / "c.txt").write_bytes(b"")
    found = discover(str(tmp_path), TEXT)
    pieces = [piece for entry in found.entries for piece in TEXT.pieces(found.store, entry)]
    assert [(piece.units, piece.about) for piece in pieces] == [(None, 23_828), (None, 6_168), (None, 1), (0, None)]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b" \n\n\t"),
        ("a.jsonl", b"\xef\xbb\xbf\r\n"),
        ("a.json", b" "),
        ("a.csv", b"text\n\n\r\n"),
        ("a.tsv", b"text\r\n\r\n"),
        ("a.jsonl", b"\n" * 200_000),
    ],
)
def test_a_file_of_blank_lines_has_no_units(tmp_path: Path, name: str, content: bytes, suffix: str) -> None:
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    source = source_for("auto", SourceOptions())
    found = discover(str(path), source)
    (entry,) = found.entries
    assert [(piece.begin, piece.end, piece.units) for piece in source.pieces(found.store, entry)] == [(0, 0, 0)]


def test_records_after_many_blank_lines_are_read(tmp_path: Path, units_of: Callable[..., list[Unit]]) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n" * 200_000 + b'{"text": "x"}')
    assert [unit.medium for unit in units_of(Store(str(tmp_path)), "jsonl")] == ["x"]


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".json"])
def test_short_lines_are_cut_by_their_number(tmp_path: Path, suffix: str) -> None:
    lines = [json.dumps({"text": str(number)}) for number in range(200)]
    content = ("[" + ",\n".join(lines) + "]" if suffix == ".json" else "\n".join(lines)).encode()
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    name = "jsonl" if suffix == ".json" else "text"
    source = source_for(name, SourceOptions(piece_units=10))
    found = discover(str(path), source)
    store, (entry,) = found.store, list(found.entries)
    pieces = list(source.pieces(store, entry))
    assert 18 <= len(pieces) <= 22
    assert sum(piece.about or 0 for piece in pieces) == pytest.approx(200, abs=5)
    assert [unit.id for piece in pieces for unit in source.units(store, piece)] == [
        f"{path.name}#{offset}" for offset in _offsets(content, lines)
    ]


def _offsets(content: bytes, lines: list[str]) -> list[int]:
    """Return where each line begins."""
    begins, at = [], 0
    for line in lines:
        at = content.index(line.encode(), at)
        begins.append(at)
        at += len(line)
    return begins
