"""JSON files that are an array, one record, or values over several lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.sources.text import json_values
from pipeline.sources.text import line_reader as lines_module
from pipeline.sources.text_source import JSONL
from tests.sources.test_text_source import COMPRESS, read

RECORDS = [{"text": "größer"}, {"text": '[{\\"}]', "n": [1, {"a": 2}]}, {"text": "two\nlines"}, {"text": "\ud800"}] * 20


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("cut", [1, 100, 1 << 18])
def test_a_json_file_with_an_array_gives_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None, suffix: str, cut: int
) -> None:
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", cut)
    monkeypatch.setattr(json_values, "_BLOCK", 16)
    data = "\ufeff" + json.dumps(RECORDS, indent=indent, ensure_ascii=indent is None).replace("\ud800", "x")
    (tmp_path / f"a.json{suffix}").write_bytes(COMPRESS[suffix](data.encode()))
    units = read(tmp_path / f"a.json{suffix}")
    assert [unit.medium for unit in units] == [json.loads(data[1:])[at]["text"] for at in range(len(RECORDS))]
    for unit in units:
        assert data.encode()[int(unit.id.rpartition("#")[2]) :].startswith(b"{")


def test_a_json_file_with_one_record_lines_or_values_gives_its_records(tmp_path: Path) -> None:
    forms = {
        "one line": '{"text": "one"}',
        "one record": '{\n  "text": "one",\n  "other": {"a": []}\n}\n',
        "lines": '{"text": "one"}\n\n{"text": "two"}\n',
        "values": '{\n "text": "one"\n}\n{\n "text": "two"\n}\n',
        "array": ' [\n{"text": "one"}\n,{"text": "two"}]\n',
        "empty array": "[]",
        "empty": "",
    }
    for name, data in forms.items():
        (tmp_path / "a.json").write_text(data)
        expected = [] if "empty" in name else ["one"] if name.startswith("one") else ["one", "two"]
        assert [unit.medium for unit in read(tmp_path / "a.json")] == expected, name
        assert [unit.medium for unit in read(tmp_path / "a.json", JSONL)] == expected, name


def test_a_record_longer_than_the_first_64_kib_is_read(tmp_path: Path) -> None:
    long = "x" * 200_000
    lines, array = f'{{"text": "{long}"}}\n{{"text": "two"}}\n', json.dumps([{"text": long}, {"text": "two"}], indent=1)
    for data in (lines, array):
        (tmp_path / "a.json").write_text(data)
        assert [unit.medium for unit in read(tmp_path / "a.json")] == [long, "two"]
    (tmp_path / "a.json").write_text(json.dumps({"other": [1] * 100_000, "text": "end"}, indent=1))
    assert [unit.medium for unit in read(tmp_path / "a.json")] == ["end"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('[{"text": "one"}, {"text": tru}, {"text": "two"}]', "the file is not valid JSON from byte 18 on"),
        ('[{"text": "one"}, {"text": "tw', "the file is not valid JSON from byte 18 on"),
        ('[{"text": "one"},', "the array is not closed: the file is truncated"),
        ('[{"text": "one"}]]', "the array ends at byte 16, but the file does not"),
        ('[{"text": "one"}, 7]', "the record must be a JSON object, got int"),
        ('{"text": "one"}\n{"text": "two"', "the record is not valid JSON"),
    ],
)
@pytest.mark.parametrize("cut", [1, 1 << 18])
def test_damaged_json_costs_one_unit_and_not_what_is_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, words: str, cut: int
) -> None:
    monkeypatch.setattr(lines_module, "LINE_PIECE_BYTES", cut)
    (tmp_path / "a.json").write_text(data)
    one, damaged = read(tmp_path / "a.json")
    assert one.medium == "one"
    assert words in str(damaged.error)


def test_json_files_of_a_folder_are_read_only_if_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a line")
    (tmp_path / "b.json").write_text('{"text": "one"}')
    assert [unit.medium for unit in read(tmp_path)] == [b"a line"]
    assert [unit.medium for unit in read(tmp_path / "*.json")] == ["one"]
