"""csv and jsonl: the rows as other programs read them, without arrays and media, and inert in spreadsheets."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.export import growing_file
from pipeline.export.csv_rows import csv_text
from pipeline.export.export import export
from pipeline.export.table_files import csv_line, exported_columns, jsonl_line, plain
from pipeline.results import open_run
from pipeline.runtime.errors import UsageError
from tests import example_runs


def stored(output: Path) -> list[dict]:
    return [row for part in sorted((output / "predictions").iterdir()) for row in pq.read_table(part).to_pylist()]


def test_csv_holds_the_rows(image_run: Path, tmp_path: Path) -> None:
    exported = export(open_run(image_run), str(tmp_path / "rows.csv"), "csv")
    rows = stored(image_run)
    assert (exported.written, exported.rows) == (1, len(rows))
    assert "columns of arrays and media, left out: latents" in exported.notes
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv"]
    frame = pd.read_csv(tmp_path / "rows.csv")
    assert list(frame["id"]) == [row["id"] for row in rows]
    assert list(frame["score"].astype(np.float32)) == [np.float32(row["score"]) for row in rows]
    assert "latents" not in frame
    for text, row in zip(frame["topk"], rows, strict=True):
        assert [label["label"] for label in json.loads(text)] == [label["label"] for label in row["topk"]]


def test_jsonl_holds_the_rows(image_run: Path, tmp_path: Path) -> None:
    export(open_run(image_run), str(tmp_path / "rows.jsonl"), "jsonl", where="score > 0.2")
    rows = [row for row in stored(image_run) if row["score"] > 0.2]
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [row["id"] for row in rows]
    assert [np.float32(line["topk"][1]["score"]) for line in lines] == [row["topk"][1]["score"] for row in rows]
    query = f"select sum(num_latents), count(*) from read_json('{tmp_path}/rows.jsonl')"
    assert duckdb.sql(query).fetchall()[0] == (sum(row["num_latents"] for row in rows), len(rows))


def test_no_row_fulfils_the_condition(image_run: Path, tmp_path: Path) -> None:
    exported = export(open_run(image_run), str(tmp_path / "rows.csv"), "csv", where="score > 2")
    assert exported.rows == 0
    assert (tmp_path / "rows.csv").read_text().startswith("id,uri,")


HOSTILE = [
    "=1+1",
    "@x",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "\t=1",
    'a"b,c\nd',
    "<script>alert(1)</script>",
    "\u202egnp",
    "🙂",
    "",
]


def test_hostile_texts_are_inert_in_csv_and_counted(image_run: Path, tmp_path: Path) -> None:
    texts = iter(HOSTILE)
    output = example_runs.copied_with_rows(image_run, tmp_path / "out", lambda row: row | {"label": next(texts)})
    exported = export(open_run(output), str(tmp_path / "rows.csv"), "csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        found = [row["label"] for row in csv.DictReader(file)]
    wanted = HOSTILE[: len(found)]
    assert found == [f"'{text}" if text[:1] in ("=", "@", "+", "-", "\t") else text for text in wanted]
    assert exported.notes["texts that a spreadsheet would run as formulas begin with an apostrophe"] == 5
    export(open_run(output), str(tmp_path / "rows.jsonl"), "jsonl")
    assert [json.loads(line)["label"] for line in (tmp_path / "rows.jsonl").read_text().split("\n")[:-1]] == wanted


def test_numbers_are_not_taken_for_formulas() -> None:
    assert csv_text([-1.5, "-1.5", "+3", "-x", None, "a"]) == "-1.5,-1.5,+3,'-x,,a\n"


def test_values_have_their_shortest_form_and_json_has_no_numbers_that_are_not_finite() -> None:
    kinds = {"f": pa.float32(), "h": pa.list_(pa.float16()), "d": pa.float64(), "b": pa.bool_(), "t": pa.timestamp("s")}
    table = pa.Table.from_pylist(
        [{"f": 0.1, "h": [0.1, None], "d": float("inf"), "b": True, "t": 0}], pa.schema(kinds.items())
    )
    row = {name: plain(value, kinds[name]) for name, value in table.to_pylist()[0].items()}
    notes = growing_file.Counter()
    assert json.loads(jsonl_line(row, notes)) == {
        "f": 0.1,
        "h": [0.1, None],
        "d": None,
        "b": True,
        "t": "1970-01-01T00:00:00",
    }
    assert csv_line(row, notes) == '0.1,"[0.1, null]",inf,true,1970-01-01T00:00:00\n'


def test_arrays_and_media_are_left_out_but_not_columns_of_the_same_name() -> None:
    medium = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        {
            "id": pa.string(),
            "frames": pa.int32(),
            "flow": pa.list_(pa.float16()),
            "video": medium,
            "x": pa.list_(medium),
        }
        | {"embedding": pa.list_(pa.float32()), "raw": pa.binary()}
    )
    assert exported_columns(schema) == (["id", "frames", "embedding"], ["flow", "video", "x", "raw"])


def test_an_export_that_was_killed_continues_after_the_last_complete_part(
    image_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing_file, "SAVE_SECONDS", 0.0)
    results = open_run(image_run)
    export(results, str(tmp_path / "whole.csv"), "csv")

    def die_at_the_third_part(done: int, total: int) -> None:
        if done == 2:
            (tmp_path / "rows.csv.partial").open("a").write("half a li")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(results, str(tmp_path / "rows.csv"), "csv", on_part=die_at_the_third_part)
    assert not (tmp_path / "rows.csv").exists()
    read = []
    rows = type(results).rows
    monkeypatch.setattr(type(results), "rows", lambda self, *a, **k: read.append(k["parts"]) or rows(self, *a, **k))
    export(results, str(tmp_path / "rows.csv"), "csv")
    assert len(read) == 2, "the check of the condition and the third part"
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv", "whole.csv"]


def test_files_that_exist_are_not_overwritten(image_run: Path, tmp_path: Path) -> None:
    results = open_run(image_run)
    (tmp_path / "mine.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"mine\.csv exists and is not overwritten: delete it first, or give another"):
        export(results, str(tmp_path / "mine.csv"), "csv")
    (tmp_path / "other.csv.partial").write_text("mine")
    with pytest.raises(UsageError, match=r"other\.csv\.partial exists and is not of an export"):
        export(results, str(tmp_path / "other.csv"), "csv")
    with pytest.raises(UsageError, match="is a folder: name a file in it"):
        export(results, str(tmp_path), "csv")
    assert [(path.name, path.read_text()) for path in sorted(tmp_path.iterdir())] == [
        ("mine.csv", "mine"),
        ("other.csv.partial", "mine"),
    ]


def test_an_unfinished_export_of_other_rows_is_not_continued(image_run: Path, tmp_path: Path) -> None:
    results = open_run(image_run)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(results, str(tmp_path / "rows.csv"), "csv", on_part=stop)
    with pytest.raises(UsageError, match=r"rows\.csv\.partial is an unfinished export of other rows or columns"):
        export(results, str(tmp_path / "rows.csv"), "csv", where="score < 0.5")


def test_table_files_are_local(image_run: Path) -> None:
    with pytest.raises(UsageError, match="writes to a local file only; copy it from there"):
        export(open_run(image_run), "s3://bucket/rows.csv", "csv")
