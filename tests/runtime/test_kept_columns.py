"""--keep-columns: values are kept exactly for every writer of tables; a damaged file does not remove a column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import duckdb
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.reference.published_configs import SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.driver.checks import CheckedRun, check_run
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.runtime.stages.load import to_tables
from pipeline.runtime.stages.unit_reader import Loaded
from pipeline.runtime.stages.write import Writer
from pipeline.sinks.parts import Footer, encode_part
from pipeline.sources import SourceOptions, discover, source_for
from pipeline.storage import AccessError, Store
from tests.decoded_units import decode_all


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small text classification checkpoint."""
    return make_checkpoint(SEQUENCE, small(SEQUENCE), tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for INPUT."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def checked(folder: Path, texts: Path, *keep: str) -> CheckedRun:
    output = str(folder.parent / "out")
    options = {"task": "text-classification", "input": str(folder), "output": output, "checkpoint": str(texts)}
    return check_run(RunOptions(**options, keep_columns=keep))


def frozen(one: CheckedRun) -> Plan:
    return freeze_plan(
        one.output, one.source, lambda: discover(one.input, one.source), ShardSizing(unit_bytes=1), kept=one.kept
    )


def written(folder: Path, name: str, **options: Any) -> pa.ChunkedArray:
    """Return a kept column as it is written to a part, by the stages of a run without its model."""
    source = source_for("auto", SourceOptions(keep=(name,), **options))
    found = discover(str(folder), source)
    entries = list(found.entries)
    kept = source.kept(found.store, entries[0])
    units = [unit for entry in entries for piece in source.pieces(found.store, entry)
             for unit in decode_all(source.units(found.store, piece))]  # fmt: skip
    assert [unit.error for unit in units if unit.error] == []
    table, _ = to_tables([Loaded(unit=unit, arrays={}) for unit in units], kept)
    table = table.append_column("segment", pa.array([0] * len(units), pa.int32()))
    rows = Writer(output=found.store, run="x", columns={}, kept=kept).rows_and_errors(table)[0]
    part = folder.parent / "part.parquet"
    footer = Footer(run="x", shard=0, segment=0, plan="", rows=len(units), quarantined=(), seconds={})
    part.write_bytes(encode_part(rows, footer))
    polars.read_parquet(part)
    assert duckdb.read_parquet(str(part)).to_arrow_table().num_rows == len(units)
    return pq.ParquetFile(part).read().column(name)


FAR, FINE = 2**60, 1_700_000_000_123_456_789
EXACT = {
    "a time far away": pa.array([FAR, None, 0], pa.timestamp("us")),
    "a day far away": pa.array([2**30, None, 0], pa.date32()),
    "nanoseconds of a day": pa.array([2001, None, 0], pa.time64("ns")),
    "nested times": pa.array([[{"at": FINE}], None, []], pa.list_(pa.struct([("at", pa.timestamp("ns", "UTC"))]))),
    "a matrix": pa.array([[[1.5, 2], [3, 4]], None, [[5, 6]]], pa.list_(pa.list_(pa.float32()))),
    "a view of lists": pa.array([[1, 2], None, []], pa.list_view(pa.int32())),
    "text": pa.array(["größer", "", "x"], pa.large_string()),
}


@pytest.mark.parametrize("name", EXACT)
def test_values_are_kept_exactly(folder: Path, name: str) -> None:
    pq.write_table(pa.table({"text": ["a", "b", "c"]} | {name: EXACT[name]}), folder / "a.parquet")
    found = written(folder, name).combine_chunks()
    expected = EXACT[name]
    if pa.types.is_list_view(expected.type):  # which Parquet readers do not support
        expected = pa.array(expected.to_pylist(), pa.list_(expected.type.value_type))
    assert found.cast(expected.type).equals(expected)


def test_the_medium_can_be_kept_too(folder: Path) -> None:
    matrices = pa.array([[[1.5, 2], [3, 4]], [[5, 6]]], pa.list_(pa.list_(pa.float32())))
    pq.write_table(pa.table({"inputs": matrices}), folder / "a.parquet")
    assert written(folder, "inputs", medium="array").to_pylist() == matrices.to_pylist()


def test_strings_of_polars_and_lists_of_views_are_planned(folder: Path, texts: Path) -> None:
    frame = polars.DataFrame({"text": ["a", "b"], "name": ["x", None], "tags": [["p", "q"], []]})
    frame.write_parquet(folder / "a.parquet")
    views = {"text": ["c"], "name": pa.array(["y"], pa.string_view()), "tags": pa.array([["r"]])}
    pq.write_table(pa.table(views), folder / "b.parquet")
    one = checked(folder, texts, "name", "tags")
    assert one.kept.types == [pa.string(), pa.list_(pa.string())]
    assert frozen(one).units == 3


def test_column_with_the_name_of_an_output_column_is_kept_under_another_and_it_is_said(
    folder: Path, texts: Path
) -> None:
    (folder / "a.csv").write_text("text,label,stars\nfine,good,5\n")
    one = checked(folder, texts, "label", "stars")
    assert one.kept.names == ["label", "stars"]
    assert "the kept column label is written as input_label: the output has its own column label" in one.notes
    source = source_for("auto", SourceOptions(keep=("label", "stars")))
    (entry,) = discover(str(folder), source).entries
    (unit,) = (unit for piece in source.pieces(one.inputs, entry) for unit in source.units(one.inputs, piece))
    table, _ = to_tables([Loaded(unit=unit, arrays={})], one.kept)
    table = table.append_column("label", pa.array(["bad"])).append_column("segment", pa.array([0], pa.int32()))
    writer = Writer(output=one.output, run="x", columns={"label": "string"}, kept=one.kept)
    (row,) = writer.rows_and_errors(table)[0].to_pylist()
    assert (row["input_label"], row["stars"], row["label"]) == ("good", "5", "bad")


@pytest.mark.parametrize("damaged", ["a.parquet", "c.parquet"])
def test_damaged_file_does_not_remove_a_column(folder: Path, texts: Path, damaged: str) -> None:
    pq.write_table(pa.table({"text": ["a", "b"], "n": [1, 2]}), folder / "b.parquet")
    (folder / damaged).write_bytes(b"PAR1 cut short")
    one = checked(folder, texts, "n")
    assert one.kept == pa.schema([("n", pa.int64())])
    assert frozen(one).units == 3


def test_column_may_be_all_null_in_one_file_but_not_of_another_type(folder: Path, texts: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), folder / "a.parquet")
    pq.write_table(pa.table({"text": ["b"], "n": pa.nulls(1)}), folder / "b.parquet")
    one = checked(folder, texts, "n")
    assert frozen(one).units == 2
    assert written(folder, "n").to_pylist() == [1, None]
    pq.write_table(pa.table({"text": ["c"], "n": [1.5]}), folder / "c.parquet")
    with pytest.raises(AccessError, match=r"c\.parquet: column 'n' has the type double, in the first file int64"):
        frozen(one)


def test_type_without_parquet_equivalent_is_refused_before_any_work(folder: Path, texts: Path) -> None:
    column = pc.run_end_encode(pa.array(["a", "a"]))
    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(str(folder))
    (data,) = folder.glob("data-*.arrow")
    table = pa.table({"text": ["a", "b"], "runs": column})
    with pa.OSFile(str(data), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    with pytest.raises(
        AccessError, match=r"arrow: column 'runs' has the type run_end_encoded<.*which Parquet does not support"
    ):
        checked(folder, texts, "runs")
    assert list(Store(str(folder.parent / "out")).keys()) == []
