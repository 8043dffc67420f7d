"""CSV and TSV files, compared with Python's csv module: every row is read once, wherever files are cut."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.sources import SOURCES, Unit, csv_source, discover, source_for
from pipeline.sources.images.image_decoding import decode_image
from pipeline.sources.source import SourceOptions
from pipeline.sources.text import csv_parser
from pipeline.sources.text import line_reader as lines_module
from pipeline.storage import AccessError, Changed, Missing, Store
from tests.decoded_units import decode_all

UnitsOf = Callable[..., list[Unit]]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


def table(rows: list[list[str]], *, delimiter: str = ",", end: str = "\r\n") -> bytes:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator=end).writerows(rows)
    return file.getvalue().encode()


def some_rows(count: int) -> list[list[str]]:
    """Fields with quotes, delimiters, line breaks of both kinds, nothing at all."""
    draw = np.random.default_rng(count)
    pieces = ["a", "ö", '"', ",", "\n", "\r\n", "\t", " ", "text", ""]
    fields = ["".join(draw.choice(pieces, size)) for size in draw.integers(0, 9, 3 * count)]
    return [["label", "text", "note"], *(fields[at : at + 3] for at in range(0, len(fields), 3))]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("cut", [1, 50, 1000, 1 << 20])
@pytest.mark.parametrize(("name", "delimiter", "end"), [("a.csv", ",", "\n"), ("a.tsv", "\t", "\r\n")])
def test_rows_equal_those_of_the_csv_module_wherever_the_file_is_cut(
    tmp_path: Path,
    units_of: UnitsOf,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    cut: int,
    name: str,
    delimiter: str,
    end: str,
) -> None:
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", cut)
    monkeypatch.setattr(csv_parser, "_BLOCK", 64)
    rows = some_rows(100)
    data = table(rows, delimiter=delimiter, end=end)
    (tmp_path / (name + suffix)).write_bytes(COMPRESS[suffix](data))
    units = units_of(Store(str(tmp_path)), "csv", keep=("note", "label"), csv_quoting="double")
    assert [[unit.kept["label"], unit.medium, unit.kept["note"]] for unit in units] == rows[1:]
    for unit, row in zip(units, rows[1:], strict=True):
        at = int(unit.id.removeprefix(f"{name}{suffix}#"))
        assert data[at:].startswith(table([row], delimiter=delimiter, end=end))


@pytest.mark.parametrize("suffix", COMPRESS)
def test_rows_are_read_from_local_disk_and_s3(
    folder: Store, units_of: UnitsOf, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", 100)
    rows = some_rows(40)
    folder.put(f"in/#1?/ä.csv{suffix}", COMPRESS[suffix](table(rows)))
    units = units_of(folder, "csv", piece_units=2)
    assert [unit.medium for unit in units] == [row[1] for row in rows[1:]]
    assert {unit.uri for unit in units} == {folder.uri_of(f"in/#1?/ä.csv{suffix}")}


def test_stray_quotes_are_read_as_the_csv_module_reads_them(
    tmp_path: Path, units_of: UnitsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", 20)
    data = b'text,size\nfloppy,3" disk\n"two\nlines",1\nan "odd" one,"2"\n"a"b",7\nlast,5" disk'
    (tmp_path / "a.csv").write_bytes(data)
    units = units_of(Store(str(tmp_path)), "csv", keep=("size",))
    expected = list(csv.reader(io.StringIO(data.decode())))[1:]
    assert [[unit.medium, unit.kept["size"]] for unit in units] == expected


def test_pieces_hold_at_most_the_requested_number_of_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(table([["text"], *([str(number)] for number in range(100))]))
    source = source_for("csv", SourceOptions(piece_units=7))
    found = discover(str(tmp_path), source)
    pieces = [piece for entry in found.entries for piece in source.pieces(found.store, entry)]
    assert [piece.about for piece in pieces] == [7] * 14 + [2]
    assert [len(decode_all(source.units(found.store, piece))) for piece in pieces] == [7] * 14 + [2]
    assert [a.end for a in pieces[:-1]] == [b.begin for b in pieces[1:]]


def test_byte_order_marks_empty_lines_and_files_without_rows_give_no_units(tmp_path: Path, units_of: UnitsOf) -> None:
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbf"text",n\r\n\r\none,1\r\n\ntwo,2')
    (tmp_path / "b.csv").write_bytes(b"")
    (tmp_path / "c.csv").write_bytes(b"text,n\n")
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(b""))
    units = units_of(Store(str(tmp_path)), "csv", keep=("n",))
    assert [(unit.id, unit.medium, unit.kept["n"]) for unit in units] == [
        ("a.csv#15", "one", "1"),
        ("a.csv#23", "two", "2"),
    ]


def test_a_bad_row_does_not_affect_other_rows(tmp_path: Path, units_of: UnitsOf) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,n\none,1\ntwo\nthree,3,3\nfo\rur,4\nfive,5\n")
    units = units_of(Store(str(tmp_path)), "csv")
    assert [unit.medium for unit in units] == ["one", None, None, None, "five"]
    assert [str(unit.error) for unit in units[1:3]] == [
        "the row has 1 fields, the header has 2",
        "the row has 3 fields, the header has 2",
    ]
    assert "the row cannot be read" in str(units[3].error)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_row_that_is_too_long_does_not_affect_other_rows(
    tmp_path: Path, units_of: UnitsOf, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", 30)
    monkeypatch.setattr(csv_parser, "_BLOCK", 32)
    for module in (csv_parser, csv_source):
        monkeypatch.setattr(module, "MAX_LINE_BYTES", 100)
    rows = [["text"], ["before"], ["x\n" * 100], ["y" * 300], ["after"]]
    (tmp_path / f"a.csv{suffix}").write_bytes(COMPRESS[suffix](table(rows)))
    units = units_of(Store(str(tmp_path)), "csv")
    assert [unit.medium for unit in units] == ["before", None, None, "after"]
    assert all("the row has more than 100 bytes" in str(unit.error) for unit in units[1:3])


def test_a_row_that_is_too_long_does_not_affect_rows_of_a_file_with_stray_quotes(
    tmp_path: Path, units_of: UnitsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (csv_parser, csv_source):
        monkeypatch.setattr(module, "MAX_LINE_BYTES", 100)
    (tmp_path / "a.csv").write_text('text\n3" disk\n' + "y" * 300 + "\nafter\n")
    units = units_of(Store(str(tmp_path)), "csv")
    assert [unit.medium for unit in units] == ['3" disk', None, "after"]


def test_a_field_of_megabytes_is_read(tmp_path: Path, units_of: UnitsOf) -> None:
    text = 'a "long" one\n' * 300_000
    (tmp_path / "a.csv").write_bytes(table([["text"], ["one"], [text], ["two"]]))
    assert [unit.medium for unit in units_of(Store(str(tmp_path)), "csv")] == ["one", text, "two"]


def test_invalid_utf8_reaches_the_tokenizer_and_is_replaced_in_rows(tmp_path: Path, units_of: UnitsOf) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,name\nb\xffd,n\xe4me\n")
    (unit,) = units_of(Store(str(tmp_path)), "csv", keep=("name",), id_column="name")
    assert unit.medium.encode("utf-8", "surrogateescape") == b"b\xffd"
    assert (unit.id, unit.kept) == ("n\ufffdme", {"name": "n\ufffdme"})


def test_ids_come_from_their_column(tmp_path: Path, units_of: UnitsOf) -> None:
    (tmp_path / "a.csv").write_bytes(b'text,key\none,"k,1"\ntwo,k2\n')
    assert [unit.id for unit in units_of(Store(str(tmp_path)), "csv", id_column="key")] == ["k,1", "k2"]
    source = source_for("csv", SourceOptions(id_column="key"))
    found = discover(str(tmp_path), source)
    assert [unit_id for entry in found.entries for unit_id in source.ids(found.store, entry)] == ["k,1", "k2"]


def test_a_row_with_an_empty_id_is_an_error(tmp_path: Path, units_of: UnitsOf) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,key\none,\ntwo,k2\nthree,\n")
    units = units_of(Store(str(tmp_path)), "csv", id_column="key")
    assert [unit.id for unit in units] == ["a.csv#9", "k2", "a.csv#21"]
    assert [unit.medium for unit in units] == [None, "two", None]
    assert "column 'key' holds no id" in str(units[0].error)
    source = source_for("csv", SourceOptions(id_column="key"))
    found = discover(str(tmp_path), source)
    assert [unit_id for entry in found.entries for unit_id in source.ids(found.store, entry)] == ["k2"]


def test_a_column_of_paths_gives_images(folder: Store, units_of: UnitsOf, png: Callable[..., bytes]) -> None:
    folder.put("t/a.csv", b"image,other\nimages/1.png,images/2.png\n../out.png,images/1.png\n")
    for number in (1, 2):
        folder.put(f"t/images/{number}.png", png(number))
    one, two = decode_image(png(1)), decode_image(png(2))
    image, outside = units_of(folder, "csv", medium="image")
    np.testing.assert_array_equal(image.medium, one)
    assert "'../out.png' is not a path" in str(outside.error)
    pair, _ = units_of(folder, "csv", medium="frame_pair", column="image, other")
    np.testing.assert_array_equal(pair.medium.frames, [one, two])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"column": "body"}, r"a\.csv: column 'body' not found; available columns: text, n"),
        ({"id_column": "key"}, r"a\.csv: column 'key' not found"),
        ({"keep": ("label",)}, r"a\.csv: column 'label' not found"),
        ({"keep": ("n",)}, r"a\.csv: 2 columns are named 'n'"),
    ],
)
def test_a_missing_column_fails_the_plan(
    tmp_path: Path, units_of: UnitsOf, options: dict[str, str], words: str
) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,n,n\none,1,2\n")
    with pytest.raises(AccessError, match=words):
        units_of(Store(str(tmp_path)), "csv", **options)
    if "keep" in options:
        source = source_for("csv", SourceOptions(**options))  # type: ignore[arg-type]
        found = discover(str(tmp_path), source)
        with pytest.raises(AccessError, match=words):
            source.kept(found.store, next(found.entries))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_damaged_compressed_file_is_one_unit(tmp_path: Path, units_of: UnitsOf, suffix: str) -> None:
    whole = COMPRESS[suffix](table(some_rows(500)))
    (tmp_path / f"a.csv{suffix}").write_bytes(whole[: len(whole) // 2])
    (tmp_path / f"b.csv{suffix}").write_bytes(b"not compressed at all")
    damaged, never = units_of(Store(str(tmp_path)), "csv")
    assert (damaged.id, never.id) == (f"a.csv{suffix}", f"b.csv{suffix}")
    assert "could not be decompressed" in str(damaged.error)


def test_a_changed_or_deleted_file_is_an_error_of_each_piece(folder: Store) -> None:
    folder.put("a.csv", b"text\none\n")
    source = SOURCES["csv"]
    found = discover(folder.uri, source)
    (piece,) = [piece for entry in found.entries for piece in source.pieces(found.store, entry)]
    folder.put("a.csv", b"text\ntwo\n")
    (unit,) = decode_all(source.units(found.store, piece))
    assert (unit.id, type(unit.error)) == ("a.csv#5", Changed)
    folder.delete("a.csv")
    (unit,) = decode_all(source.units(found.store, piece))
    assert type(unit.error) is Missing


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("cut", [1, 20, 1 << 18])
@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b'n,text\n1,one\n2,"not closed\n3,three\n4,four', ["one", None, "three", "four"]),
        (b'n,text\n1,"not closed\n2,"two"\n3,"thr\nee"\n4,four\n', [None, "two", "thr\nee", "four"]),
        (b'n,text\n1,"not closed\n2,"nor this\n3,three\n', [None, None, "three"]),
        (b'n,text\n1,"not closed\n2,3" disk\n3,three\n', [None, '3" disk', "three"]),
        (b'n,text\n1,"closed\nover two lines"', ["closed\nover two lines"]),
        (b'n,text\n1,"closed\nbefore a space" \n2,two', ["closed\nbefore a space ", "two"]),
    ],
)
def test_a_quote_that_is_not_closed_costs_its_row_only(
    tmp_path: Path,
    units_of: UnitsOf,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    cut: int,
    data: bytes,
    texts: list[str | None],
) -> None:
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", cut)
    (tmp_path / f"a.csv{suffix}").write_bytes(COMPRESS[suffix](data))
    units = units_of(Store(str(tmp_path)), "csv")
    assert [unit.medium for unit in units] == texts
    for unit in units:
        at = int(unit.id.rpartition("#")[2])
        assert data[at - 1 : at] == b"\n"
        if unit.medium is None:
            assert str(unit.error) == f"a quote in the row at byte {at:,} is not closed"


def test_a_quote_that_is_not_closed_costs_its_row_only_before_more_than_a_row_may_have(
    tmp_path: Path, units_of: UnitsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", 50)
    for module in (csv_parser, csv_source):
        monkeypatch.setattr(module, "MAX_LINE_BYTES", 100)
    (tmp_path / "a.csv").write_text('text\n"not closed\n' + "line\n" * 100)
    units = units_of(Store(str(tmp_path)), "csv")
    assert [unit.medium for unit in units] == [None, *["line"] * 100]


TSV_ROWS = ['"We won," he said', "nothing", 'a 5" screen', '"Starts with one', 'ends with one"', '""', '"all of it"']


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("cut", [1, 1 << 18])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_quotes_of_tsv_files_are_text(
    tmp_path: Path, units_of: UnitsOf, monkeypatch: pytest.MonkeyPatch, suffix: str, cut: int, end: str
) -> None:
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", cut)
    lines = ["label\ttext", *(f"{number}\t{text}" for number, text in enumerate(TSV_ROWS))]
    (tmp_path / f"a.tsv{suffix}").write_bytes(COMPRESS[suffix](end.join(lines).encode()))
    units = units_of(Store(str(tmp_path)), "csv", keep=("label",))
    assert [unit.medium for unit in units] == TSV_ROWS
    assert [unit.kept["label"] for unit in units] == [str(number) for number in range(len(TSV_ROWS))]


def test_csv_quoting_decides_for_both_kinds_of_files(tmp_path: Path, units_of: UnitsOf) -> None:
    (tmp_path / "a.csv").write_text('text,n\n"one",1\n')
    (tmp_path / "b.tsv").write_text('text\tn\n"two"\t1\n')
    expected = {"auto": ["one", '"two"'], "double": ["one", "two"], "none": ['"one"', '"two"']}
    for quoting, texts in expected.items():
        units = units_of(Store(str(tmp_path)), "csv", csv_quoting=quoting)
        assert [unit.medium for unit in units] == texts


def test_a_quoted_header_of_a_tsv_file_fails_the_plan_with_the_option(tmp_path: Path, units_of: UnitsOf) -> None:
    (tmp_path / "a.tsv").write_text('"text"\t"n"\n"two"\t"1"\n')
    with pytest.raises(AccessError, match=r"a\.tsv: column 'text' not found .*; use --csv-quoting double"):
        units_of(Store(str(tmp_path)), "csv")
    (unit,) = units_of(Store(str(tmp_path)), "csv", csv_quoting="double")
    assert unit.medium == "two"
