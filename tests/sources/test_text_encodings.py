"""Texts in UTF-16 and UTF-32, with carriage returns or compressed, and files that hold no text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.sources import SOURCES, SourceOptions, Unit, source_for
from pipeline.sources.csv_source import CSV
from pipeline.sources.text import line_reader as lines_module
from pipeline.sources.text_source import TEXT
from pipeline.storage import Store
from tests.sources.test_text_source import COMPRESS, read, texts

ENCODINGS = {
    "utf-16-le": b"\xff\xfe",
    "utf-16-be": b"\xfe\xff",
    "utf-32-le": b"\xff\xfe\0\0",
    "utf-32-be": b"\0\0\xfe\xff",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("folder", "cut"), [("local", 7), ("local", 1 << 18), ("s3", 1 << 18)], indirect=["folder"])
def test_utf_16_and_utf_32_with_a_byte_order_mark_are_read(
    folder: Store,
    units_of: Callable[..., list[Unit]],
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
    suffix: str,
    cut: int,
) -> None:
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", cut)
    content = ["größer", "", "🙂 two", "a\u0a0ab"]
    mark, text = ENCODINGS[encoding], "\r\n".join(content)
    records = "".join(json.dumps({"text": each}, ensure_ascii=False) + "\n" for each in content)
    for name, data in (("a.txt", text), ("b.jsonl", records), ("c.csv", f"n,text\r\n1,{content[0]}\r\n")):
        folder.put(name + suffix, COMPRESS[suffix](mark + data.encode(encoding)))
    lines = units_of(folder, "text")
    assert [unit.medium for unit in lines] == [*(each.encode() for each in content), *content]
    assert lines[2].id == f"a.txt{suffix}#12", "offsets are those of the text in UTF-8"
    assert [unit.medium for unit in units_of(folder, "csv")] == [content[0]]
    whole, *_ = units_of(folder, "text", text_unit="file")
    assert whole.medium == text.encode()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "text", ["hi", "plain ascii\n" * 900, "Grüße, 🙂\r\n", "привет, мир\n" * 9, "你好。\n世界。\n"]
)
def test_utf_16_and_utf_32_without_a_byte_order_mark_are_quarantined(tmp_path: Path, encoding: str, text: str) -> None:
    record = json.dumps({"text": text}, ensure_ascii=False)
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    (tmp_path / "b.jsonl").write_bytes(record.encode(encoding))
    (tmp_path / "c.csv").write_bytes("n,text\r\n1,a\r\n".encode(encoding))
    sources = [(TEXT, ["a.txt", "b.jsonl"]), (CSV.configured(SourceOptions(keep=("n",))), ["c.csv"])]
    sources.append((TEXT.configured(SourceOptions(text_unit="file")), ["a.txt", "b.jsonl"]))
    for source, names in sources:
        units = read(tmp_path, source)
        assert [unit.id for unit in units] == names
        for unit in units:
            assert f"text in {encoding[:6].upper()} without a byte order mark: add one" in str(unit.error)


@pytest.mark.parametrize(
    "content", [b"one\0two and more\n", b"a\0", bytes(40), b"names\0of\0files\0ends\0with\0nul\0", b"\0" * 7 + b"ab"]
)
def test_text_with_nul_bytes_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert b"\n".join(unit.medium for unit in read(tmp_path)).strip() == content.strip()


def test_damaged_utf_16_is_not_valid_utf_8_so_that_it_is_flagged(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfeo\0k\0\n\0" + b"\x00\xd8b\0\n\0" + b"c\0d")
    good, lone, cut = read(tmp_path)
    assert good.medium == b"ok"
    assert lone.medium.decode(errors="replace").strip("\ufffd") == "b"
    assert cut.medium.decode(errors="replace").strip("\ufffd") == "c"
    for unit in (lone, cut):
        with pytest.raises(UnicodeDecodeError):
            unit.medium.decode()


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("cut", [1, 7, 1 << 18])
def test_lines_that_end_with_carriage_returns_alone_are_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, cut: int
) -> None:
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", cut)
    content = texts(60)
    (tmp_path / f"a.txt{suffix}").write_bytes(COMPRESS[suffix](b"".join(line + b"\r" for line in content)))
    (tmp_path / f"b.jsonl{suffix}").write_bytes(COMPRESS[suffix](b'{"text": "one"}\r{"text": "two"}'))
    (tmp_path / f"c.csv{suffix}").write_bytes(COMPRESS[suffix](b'text,n\r"a ""b""",1\rc,2\r'))
    assert [unit.medium for unit in read(tmp_path)] == [*content, "one", "two"]
    assert [unit.medium for unit in read(tmp_path, SOURCES["csv"])] == ['a "b"', "c"]


def test_carriage_returns_inside_lines_that_end_with_line_feeds_are_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"10 %\r20 %\ndone\n")
    assert [unit.medium for unit in read(tmp_path)] == [b"10 %\r20 %", b"done"]
    (tmp_path / "a.txt").write_bytes(b"a\r" * 40_000 + b"b\r\nc\nd")
    assert [unit.medium for unit in read(tmp_path)] == [b"a"] * 40_000 + [b"b", b"c", b"d"]


@pytest.mark.parametrize("compress", COMPRESS.values(), ids=COMPRESS)
def test_compression_is_recognised_by_content(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    data = compress(b"one\ntwo\n" * 100)
    for name in ("a.txt", "b.txt.gz", "c.txt.xz") if data[:3] != b"one" else ("a.txt",):
        (tmp_path / name).write_bytes(data)
    assert {unit.medium for unit in read(tmp_path)} == {b"one", b"two"}
    assert len(read(tmp_path)) == 200 * len(list(tmp_path.iterdir()))


@pytest.mark.parametrize(
    "data", [b"PAR1\x15\x04" + bytes(100), b"\x89PNG\r\n\x1a\n" + bytes(100), b"version https://git-lfs.x\noid 1\n"]
)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_a_file_that_holds_no_text_is_one_unit_with_the_reason(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    (unit,) = read(tmp_path, source_for("csv" if name == "a.csv" else "text"))
    assert unit.id == name
    assert str(unit.error) in {
        f"the file is {kind}, not text" for kind in ("a Parquet file", "a PNG file", "a Git LFS pointer file")
    }
