"""A part is committed once, is the only record of its shard, and any Parquet reader reads it."""

import dataclasses
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.sinks import encoding
from pipeline.sinks.ownership import RUN_FILE
from pipeline.sinks.parts import (
    Committed,
    Footer,
    Quarantined,
    commit,
    encode_part,
    encode_quarantine,
    parse_part_key,
    part_key,
    quarantine_key,
    read_footer,
)
from pipeline.sinks.schema import output_schema
from pipeline.storage import Missing, StorageError, Store

TOPK = [{"label_id": "int32", "label": "string", "score": "float32"}]
COLUMNS = {
    "label_id": "int32",
    "label": "string",
    "score": "float32",
    "topk": TOPK,
    "logits": ["float32"],
    "flow": ["float16"],
    "frame": "int64",
    "seconds": "float64",
    "audio": "bool",
    "video": {"bytes": "binary", "path": "string"},
}


def make_table(rows: int, width: int = 6) -> pa.Table:
    """Return rows with every column type and reproducible random values."""
    random = np.random.default_rng(rows)
    values = [
        {
            "id": f"cats/ü #{row}?.jpg",
            "uri": f"s3://bucket/cats/ü #{row}?.jpg",
            "version": "v1",
            "segment": 0,
            "label_id": row,
            "label": "tabby",
            "score": float(np.float32(random.random())),
            "topk": [
                {"label_id": k, "label": f"label {k}", "score": float(np.float32(0.5 / (k + 1)))} for k in range(3)
            ],
            "logits": random.standard_normal(width).astype(np.float32),
            "flow": random.standard_normal(width).astype(np.float16),
            "frame": 2**40 + row,
            "seconds": None if row % 2 else row / 25,
            "audio": row % 2 == 0,
            "video": {"bytes": b"mp4", "path": "a.mp4"},
        }
        for row in range(rows)
    ]
    return pa.Table.from_pylist(values, schema=output_schema(COLUMNS))


def make_footer(rows: int, *, failed: int = 0, attempt: str = "first", shard: int = 7) -> Footer:
    units = tuple(
        Quarantined(id=f"{name}.jpg", uri="s3://…", stage="load", error="OSError", message=attempt, attempts=2, key="x")
        for name in (f"dogs/{number}" for number in range(failed))
    )
    seconds = {"load": 0.25, "predict": 1 / 3}
    return Footer(run="0a1b2c", shard=shard, segment=0, plan="d1935f", rows=rows, quarantined=units, seconds=seconds)


def claimed(uri: str, run: str = "0a1b2c") -> Store:
    """Return an OUTPUT that belongs to the run."""
    store = Store(uri)
    store.put(RUN_FILE, json.dumps({"run": run}).encode())
    return store


def file_of(data: bytes) -> pq.ParquetFile:
    return pq.ParquetFile(io.BytesIO(data))


def test_keys_depend_on_run_and_shard_only() -> None:
    assert part_key("0a1b2c", 7) == "predictions/part-0a1b2c-00000007.parquet"
    assert quarantine_key("0a1b2c", 7) == "quarantine/part-0a1b2c-00000007.parquet"
    for shard in (0, 7, 10**9):
        assert parse_part_key(part_key("0a1b2c", shard)) == ("0a1b2c", shard)
    for key in (
        "predictions/other.parquet",
        "predictions/part-0a1b2c-7.parquet",
        "x/predictions/part-a-00000007.parquet",
    ):
        assert parse_part_key(key) is None
    assert parse_part_key("quarantine/part-0a1b2c-00000007.parquet") is None


def test_part_holds_its_rows_and_footer() -> None:
    table, footer = make_table(5), make_footer(5, failed=2)
    file = file_of(encode_part(table, footer))
    assert file.read().equals(table)
    assert file.schema_arrow.metadata[b"huggingface"] == table.schema.metadata[b"huggingface"]
    assert Footer.from_json(file.metadata.metadata[b"perceiver"]) == footer


def test_same_rows_and_footer_give_the_same_bytes() -> None:
    texts = pa.table({"text": [f"{row} " * 200 for row in range(3000)]})  # long enough for several pages
    for table in (make_table(50), texts):
        footer = make_footer(table.num_rows, failed=1)
        cut = pa.concat_tables([table.slice(at, 7) for at in range(0, table.num_rows, 7)])
        assert encode_part(table, footer) == encode_part(cut, footer) == encode_part(table, footer)


def test_wrong_number_of_rows_in_the_footer_is_refused() -> None:
    with pytest.raises(ValueError, match="counts 4 rows, the table has 5"):
        encode_part(make_table(5), make_footer(4))


def test_large_types_are_plain_in_the_file() -> None:
    table = make_table(5)
    wide = pa.schema(
        [
            ("id", pa.large_string()),
            ("topk", pa.large_list(table.schema.field("topk").type.value_type)),
            ("flow", pa.large_list(pa.float16())),
        ]
    )
    narrow = table.select(wide.names)
    written = file_of(encode_part(narrow.cast(wide).slice(1, 3), make_footer(3))).read()
    assert written.schema.types == narrow.schema.types
    assert written.equals(narrow.slice(1, 3))


# DuckDB does not read BYTE_STREAM_SPLIT of float16.
@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("logits", "BYTE_STREAM_SPLIT"),
        ("topk.list.element.score", "BYTE_STREAM_SPLIT"),
        ("score", "BYTE_STREAM_SPLIT"),
        ("flow", "PLAIN"),
    ],
)
def test_floats_are_written_without_a_dictionary(name: str, encoding: str) -> None:
    group = file_of(encode_part(make_table(100), make_footer(100))).metadata.row_group(0)
    columns = [group.column(index) for index in range(group.num_columns)]
    [column] = [column for column in columns if column.path_in_schema.removesuffix(".list.element") == name]
    assert set(column.encodings) - {"RLE"} == {encoding}
    assert not column.has_dictionary_page
    assert {column.compression for column in columns} == {"ZSTD"}
    assert next(column for column in columns if column.path_in_schema == "label").has_dictionary_page


def test_row_groups_are_limited_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "ROW_GROUP_BYTES", 1 << 20)
    small, large = make_table(400, width=2), make_table(40, width=20_000)  # the average row is a tenth of a large one
    table = pa.concat_tables([small, large])
    file = file_of(encode_part(table, make_footer(440)))
    sizes = [file.read_row_group(number).nbytes for number in range(file.num_row_groups)]
    assert max(sizes) <= 1 << 20
    assert len(sizes) < 20
    assert file.read().equals(table)


def test_row_larger_than_the_limit_has_its_own_row_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "ROW_GROUP_BYTES", 1000)
    assert file_of(encode_part(make_table(3, width=1000), make_footer(3))).num_row_groups == 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An OUTPUT with two shards with rows, and one with quarantined units only."""
    store = claimed(str(tmp_path))
    for shard, rows in enumerate([3, 0, 4]):
        commit(store, make_table(rows), make_footer(rows, failed=1, shard=shard))
    return tmp_path


def test_pandas_reads_parts(folder: Path) -> None:
    found = pd.read_parquet(folder / "predictions")
    assert len(found) == 7
    assert found["flow"][3].dtype == np.float16
    np.testing.assert_array_equal(found["flow"][3], make_table(4)["flow"][0].as_py())
    assert found["topk"][0][1] == {"label_id": 1, "label": "label 1", "score": 0.25}
    assert found["frame"].dtype == np.int64
    assert len(pd.read_parquet(folder / "quarantine")) == 3


def test_polars_reads_parts(folder: Path) -> None:
    found = pl.read_parquet(folder / "predictions/*.parquet")
    assert found.schema["topk"] == pl.List(pl.Struct({"label_id": pl.Int32, "label": pl.String, "score": pl.Float32}))
    assert found.schema["logits"] == pl.List(pl.Float32)
    assert found.schema["audio"] == pl.Boolean
    assert found["logits"].to_list() == make_table(3)["logits"].to_pylist() + make_table(4)["logits"].to_pylist()
    assert found["flow"].to_list() == make_table(3)["flow"].to_pylist() + make_table(4)["flow"].to_pylist()


def test_duckdb_reads_parts(folder: Path) -> None:
    source = f"read_parquet('{folder}/predictions/*.parquet')"
    types = dict(duckdb.sql(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {source})").fetchall())
    assert types["topk"] == 'STRUCT(label_id INTEGER, "label" VARCHAR, score FLOAT)[]'
    assert (types["logits"], types["segment"], types["frame"]) == ("FLOAT[]", "INTEGER", "BIGINT")
    assert duckdb.sql(f"SELECT count(*), sum(topk[1].score) FROM {source}").fetchall() == [(7, 3.5)]
    flows = duckdb.sql(f"SELECT flow FROM {source} ORDER BY filename, label_id").fetchall()
    assert [flow for (flow,) in flows] == make_table(3)["flow"].to_pylist() + make_table(4)["flow"].to_pylist()


def test_datasets_reads_parts(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    files = str(folder / "predictions/*.parquet")
    found = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=tmp_path_factory.mktemp("cache")
    )
    assert found.num_rows == 7
    assert found.features == datasets.Features.from_arrow_schema(output_schema(COLUMNS))
    assert found.features["flow"] == datasets.List(datasets.Value("float16"))
    assert found[0]["topk"][0] == {"label_id": 0, "label": "label 0", "score": 0.5}
    assert found[3]["flow"] == make_table(4)["flow"][0].as_py()


def test_reading_the_footer_does_not_read_the_rows(s3_proxy, s3) -> None:
    store, footer = Store(s3.bucket("footer")), make_footer(200, failed=3)
    data = encode_part(make_table(200, width=20_000), footer)
    assert len(data) > 4 << 20
    store.put(part_key("0a1b2c", 7), data)
    assert read_footer(store, part_key("0a1b2c", 7)) == footer
    gets = [(headers, count) for method, _, headers, count in s3_proxy.seen if method == "GET"]
    assert gets
    assert all("range" in headers for headers, _ in gets)
    assert sum(count for _, count in gets) < len(data) / 4


def test_footer_with_many_quarantined_units_is_read_whole(tmp_path: Path) -> None:
    store, footer = claimed(str(tmp_path)), make_footer(1, failed=5000)
    commit(store, make_table(1), footer)
    assert read_footer(store, part_key("0a1b2c", 7)) == footer


@pytest.mark.parametrize("data", [b"", b"no parquet", b"PAR1" + bytes(100) + b"\x10\0\0\0PAR1", None])
def test_file_that_is_not_a_part_is_named(tmp_path: Path, data: bytes | None) -> None:
    if data is None:  # a Parquet file of somebody else
        pq.write_table(pa.table({"a": [1]}), sink := io.BytesIO())
        data = sink.getvalue()
    store = Store(str(tmp_path))
    store.put("predictions/part-a-00000000.parquet", data)
    with pytest.raises(StorageError, match=f"{tmp_path}/predictions/part-a-00000000.parquet is not a part") as caught:
        read_footer(store, "predictions/part-a-00000000.parquet")
    assert not caught.value.transient


def test_absent_part_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing):
        read_footer(Store(str(tmp_path)), part_key("0a1b2c", 7))


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return claimed(str(tmp_path) if request.param == "local" else request.getfixturevalue("s3").bucket("commit"))


def read(store: Store, key: str) -> list[dict]:
    return file_of(store.read(key)).read().to_pylist()


def test_all_attempts_adopt_the_winner_s_footer(store: Store) -> None:
    """Eight attempts with different results commit at once: no mix of two is visible."""
    start = threading.Barrier(8)

    def attempt(number: int) -> Committed:
        table, footer = make_table(8 - number), make_footer(8 - number, failed=number, attempt=f"attempt {number}")
        start.wait()
        return commit(store, table, footer)

    with ThreadPoolExecutor(8) as threads:
        ends = list(threads.map(attempt, range(1, 9)))
    [winner] = [each.footer for each in ends if each.is_ours]
    assert all(each.footer == winner for each in ends)
    assert len(read(store, part_key("0a1b2c", 7))) == winner.rows
    assert {each.size for each in ends} == {len(store.read(part_key("0a1b2c", 7)))}
    assert {each.stamp for each in ends} == {store.stamp(part_key("0a1b2c", 7))}
    quarantined = [dataclasses.asdict(unit) for unit in winner.quarantined]
    assert [row | {"key": "x"} for row in read(store, quarantine_key("0a1b2c", 7))] == quarantined
    assert store.read(quarantine_key("0a1b2c", 7)) == encode_quarantine(winner)


def test_quarantine_part_missing_after_a_kill_is_written_by_the_next_attempt(store: Store) -> None:
    winner, later = make_footer(3, failed=2, attempt="killed"), make_footer(5, attempt="later")
    store.put_if_absent(part_key("0a1b2c", 7), encode_part(make_table(3), winner))
    assert commit(store, make_table(5), later)[:2] == (winner, False)
    assert [row["message"] for row in read(store, quarantine_key("0a1b2c", 7))] == ["killed", "killed"]


def test_no_quarantine_part_without_quarantined_units(store: Store) -> None:
    commit(store, make_table(3), make_footer(3))
    assert list(store.keys("")) == [RUN_FILE, part_key("0a1b2c", 7)]


def test_part_of_another_plan_is_refused(store: Store) -> None:
    commit(store, make_table(3), make_footer(3))
    with pytest.raises(StorageError, match="belongs to the plan file d1935f, not to 0ther"):
        commit(store, make_table(3), dataclasses.replace(make_footer(3), plan="0ther"))
