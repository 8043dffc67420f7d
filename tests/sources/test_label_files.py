"""Files with known labels: every format gives the same labels, and each mistake is named."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.sources.label_files import LabelFile, read_label_file
from pipeline.storage import AccessError

EXPECTED = [("007", "7"), ("a,b.jpg", "größe"), ("c", "two\nlines")]
CSV = 'label,other,id\n7,x,007\ngröße,x,"a,b.jpg"\n"two\nlines",x,c\n,x,unlabelled\n'
TASKS = [
    {"data": {"unit": "007"}, "annotations": [{"result": [{"type": "choices", "value": {"choices": ["7"]}}]}]},
    {
        "data": {"unit": "a,b.jpg"},
        "annotations": [
            {"updated_at": "2026-01-02", "result": [{"type": "choices", "value": {"choices": ["größe"]}}]},
            {"updated_at": "2026-01-01", "result": [{"type": "choices", "value": {"choices": ["old"]}}]},
            {"updated_at": "2026-01-03", "was_cancelled": True, "result": []},
        ],
    },
    {"data": {"unit": "c"}, "annotations": [{"result": [{"type": "choices", "value": {"choices": ["two\nlines"]}}]}]},
    {"data": {"unit": "unlabelled"}, "annotations": []},
]
JSONL = [{"id": unit, "label": int(label) if label == "7" else label, "more": [1]} for unit, label in EXPECTED]
FILES = {
    "a.csv": CSV.encode(),
    "bom.CSV": b"\xef\xbb\xbf" + CSV.encode(),
    "a.tsv": b'id\tlabel\n007\t7\n"a,b.jpg"\tgr\xc3\xb6\xc3\x9fe\nc\t"two\nlines"\nunlabelled\t\n',
    "a.jsonl": "\n".join(map(json.dumps, [*JSONL, {"id": "unlabelled", "label": None}])).encode(),
    "a.json": json.dumps(TASKS).encode(),
    "min.json": json.dumps([{"unit": unit, "label": label} for unit, label in EXPECTED] + [{"unit": "x"}]).encode(),
}


def labels_in(found: LabelFile) -> list[tuple[str, str]]:
    return [tuple(row.values()) for row in found.table.to_pylist()]


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_labels(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    found = read_label_file(str(tmp_path / name))
    assert labels_in(found) == EXPECTED
    assert found.unlabelled == 1
    assert found.notes == [f"{tmp_path / name}: 1 unlabelled row, without a label or an id"]
    assert found.of(pa.array(["c", "missing", "007"])).to_pylist() == ["two\nlines", None, "7"]


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.bool_(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())], ids=str
)
def test_columns_of_parquet_become_text(tmp_path: Path, kind: pa.DataType) -> None:
    values = {"int64": [1, 2], "bool": [True, False]}.get(str(kind), ["x", "y"])
    pq.write_table(pa.table({"id": [2, 1], "label": pa.array(values).cast(kind)}), tmp_path / "a.parquet")
    first, second = ("true", "false") if kind == pa.bool_() else map(str, values)
    assert labels_in(read_label_file(str(tmp_path / "a.parquet"))) == [("1", second), ("2", first)]


def test_rows_that_repeat_each_other_count_once_and_empty_files_have_no_labels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,label\na,x\na,x\nb,\n")
    found = read_label_file(str(tmp_path / "a.csv"))
    assert (labels_in(found), found.unlabelled) == ([("a", "x")], 1)
    (tmp_path / "empty.jsonl").write_bytes(b"\n")
    found = read_label_file(str(tmp_path / "empty.jsonl"))
    assert (labels_in(found), found.notes) == ([], [])


def test_labels_are_the_same_after_a_copy(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    found = read_label_file(str(tmp_path / "a.csv"))
    assert LabelFile.from_parquet("x", found.to_parquet()).table.equals(found.table)


WRONG = {
    "missing.csv": (None, "the file with labels does not exist"),
    "a.txt": (b"", r"must be one of \.csv, \.tsv, \.jsonl, \.parquet, \.json"),
    "twice.csv": (b"id,label\na,x\nb,y\na,z\nb,w\n", "the id 'a' has two labels, 'x' and 'z', as 1 more ids have"),
    "columns.csv": (b"name,label\na,x\n", "needs one column 'id'; its columns are name, label"),
    "double.csv": (b"id,label,label\na,x,y\n", "needs one column 'label'; its columns are id, label, label"),
    "empty.csv": (b"", "the file with labels cannot be read: Empty CSV file"),
    "ragged.csv": (b"id,label\na,x,y\n", "cannot be read: CSV parse error: Expected 2 columns, got 3"),
    "latin.csv": ("id,label\na,größe\n".encode("latin1"), "cannot be read: .*UTF8"),
    "bad.parquet": (b"PAR1", "the file with labels cannot be read"),
    "line.jsonl": (b'{"id": "a", "label": "x"}\n[1]\n', "line 2 is no object with id and label"),
    "cut.jsonl": (b'{"id": "a", "lab', "the file with labels cannot be read: Unterminated string"),
    "float.jsonl": (b'{"id": "a", "label": 1.5}', "line 1: label must be a text or a whole number, got 1.5"),
    "object.json": (b"{}", "an export of Label Studio is a list of tasks"),
    "unit.json": (b'[{"data": {"image": "x"}, "annotations": []}]', "task 0 has no 'unit' in its data"),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistake_is_named(tmp_path: Path, name: str) -> None:
    data, reason = WRONG[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(AccessError, match=f"{name}.*{reason}"):
        read_label_file(str(tmp_path / name))


@pytest.mark.parametrize("kind", [pa.float64(), pa.list_(pa.string())], ids=str)
def test_column_of_parquet_that_can_be_no_label_is_named(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"id": ["a"], "label": pa.array([None], kind)}), tmp_path / "a.parquet")
    with pytest.raises(AccessError, match=r"column .label. must hold texts or whole numbers, got (double|list<)"):
        read_label_file(str(tmp_path / "a.parquet"))


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").mkdir()
    (tmp_path / "label.csv").touch()
    for name, reason in {
        str(tmp_path / "labels.csv"): "the file with labels is a folder",
        str(tmp_path / "lable.csv"): r"the file with labels does not exist \(did you mean label\.csv\?\)",
        "s3://labels.csv": "s3://labels.csv is a bucket: name a file with labels in it",
        "memory://labels/a.csv": "is in the memory of one process",
        "https://me:word@host/a.csv": "a URI must not contain a user, password",
    }.items():
        with pytest.raises(AccessError, match=reason):
            read_label_file(name)
