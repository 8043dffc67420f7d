"""The first attempt to commit a part wins; later ones report its numbers."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.runtime.records.quarantine import quarantine_record, quarantine_table
from pipeline.runtime.stages import write as write_module
from pipeline.runtime.stages.shard_format import pack, unpack
from pipeline.runtime.stages.write import Writer, write
from pipeline.sinks.parts import part_key, quarantine_key, read_footer
from pipeline.storage import AccessError, Missing, StorageError, StorageFull, Store

COLUMNS = {"label": "string", "score": "float32"}


def shard(good: list[str], bad: list[str], fatal: str = "") -> pa.Table:
    names = pa.array(good, pa.large_string())
    units = pa.table(
        {
            "id": names,
            "uri": names,
            "version": names,
            "label": names,
            "score": pa.array([0.5] * len(good), pa.float32()),
            "segment": pa.array([1] * len(good), pa.int32()),
        }
    )
    failed = quarantine_table([quarantine_record(name, name, "load", OSError("cut short")) for name in bad])
    seconds = {"seconds_load": 1.5, "seconds_predict": 2.5}
    return pack(units, failed, {"shard": 12, "segment": 1, "plan": "0f", "fatal": fatal} | seconds)


@pytest.fixture
def writer(tmp_path) -> Writer:
    return writer_of(tmp_path, "abcd0123")


def writer_of(folder: Path, run: str) -> Writer:
    """A writer into an OUTPUT of that run."""
    output = Store(str(folder))
    output.put_if_absent("_run/run.json", json.dumps({"run": run}).encode())
    return Writer(output=output, run=run, columns=COLUMNS)


def test_write_commits_a_part_and_its_quarantine_and_returns_a_receipt(writer):
    receipt = write(shard(["a", "b"], ["c"]), writer=writer).to_pylist()[0]
    data = writer.output.read(part_key("abcd0123", 12))
    table = pq.read_table(io.BytesIO(data))
    assert table.column_names == ["id", "uri", "version", "segment", "label", "score"]
    assert table.column("id").to_pylist() == ["a", "b"]
    assert b"huggingface" in table.schema.metadata
    lost = pq.read_table(io.BytesIO(writer.output.read(quarantine_key("abcd0123", 12)))).to_pylist()
    assert [(unit["id"], unit["error"], unit["message"]) for unit in lost] == [("c", "OSError", "cut short")]
    footer = read_footer(writer.output, part_key("abcd0123", 12))
    assert (footer.plan, footer.segment, footer.seconds) == ("0f", 1, {"load": 1.5, "predict": 2.5})
    assert (receipt["shard"], receipt["rows"], receipt["quarantined"], receipt["bytes"]) == (12, 2, 1, len(data))
    assert (receipt["seconds_load"], receipt["seconds_predict"], receipt["fatal"]) == (1.5, 2.5, "")
    assert receipt["seconds_write"] > 0


def test_loser_of_a_race_reports_the_winner(writer):
    write(shard(["a", "b", "c"], []), writer=writer)
    before = writer.output.read(part_key("abcd0123", 12))
    receipt = write(shard(["a"], ["b", "c"]), writer=writer).to_pylist()[0]
    assert (receipt["rows"], receipt["quarantined"]) == (3, 0)
    assert writer.output.read(part_key("abcd0123", 12)) == before
    assert list(writer.output.keys("quarantine/")) == [], "no mix of two attempts"


def test_missing_quarantine_file_is_written_from_the_footer_of_the_winner(writer):
    write(shard(["a", "b"], ["c"]), writer=writer)
    writer.output.delete(quarantine_key("abcd0123", 12))
    write(shard(["a", "b", "c"], []), writer=writer)
    lost = pq.read_table(io.BytesIO(writer.output.read(quarantine_key("abcd0123", 12))))
    assert lost.column("id").to_pylist() == ["c"]


def test_fatal_error_of_load_reaches_the_driver(writer):
    receipt = write(shard([], [], fatal="no access"), writer=writer).to_pylist()[0]
    assert (receipt["fatal"], receipt["shard"]) == ("no access", 12)
    assert list(writer.output.keys("predictions/")) == []


@pytest.mark.parametrize("error", [AccessError("no permission"), StorageFull("no room for 12 bytes in /data")])
def test_store_that_cannot_be_written_ends_the_run(writer, monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(Store, "put_if_absent", refuse)
    assert write(shard(["a"], []), writer=writer).to_pylist()[0]["fatal"] == str(error)


def test_transient_errors_leave_the_shard_to_another_attempt(writer, monkeypatch):
    def refuse(*_):
        raise StorageError("503", transient=True)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_if_absent", refuse)
        with pytest.raises(StorageError, match="503"):
            write(shard(["a"], []), writer=writer)
    assert write(shard(["a"], []), writer=writer).to_pylist()[0]["rows"] == 1


def test_other_object_under_the_name_of_the_part_ends_the_run(writer, tmp_path):
    writer.output.put_if_absent(part_key("abcd0123", 12), b"a letter")
    receipt = write(shard(["a"], []), writer=writer).to_pylist()[0]
    assert "is not a part that this project wrote" in receipt["fatal"]
    other = writer_of(tmp_path / "other", "ef")
    write(shard(["a"], []), writer=other)
    units, failed, scalars = unpack(shard(["a"], []))
    receipt = write(pack(units, failed, scalars | {"plan": "another"}), writer=other).to_pylist()[0]
    assert "belongs to the plan file 0f, not to another" in receipt["fatal"]


def test_part_that_is_gone_when_read_is_left_to_another_attempt(writer, monkeypatch):
    monkeypatch.setattr(Store, "put_if_absent", lambda *_: False)
    with pytest.raises(Missing):
        write(shard(["a"], []), writer=writer)


def test_row_that_parquet_cannot_hold_is_quarantined(writer):
    seconds = pa.array([0, 2**62, 5], pa.timestamp("s"))  # Parquet counts thousandths
    units, failed, scalars = unpack(shard(["a", "b", "c"], ["d"]))
    row = pack(units.append_column("kept.when", seconds), failed, scalars)
    receipt = write(row, writer=replace(writer, kept=pa.schema([("when", pa.timestamp("s"))]))).to_pylist()[0]
    assert (receipt["rows"], receipt["quarantined"]) == (2, 2)
    footer = read_footer(writer.output, part_key("abcd0123", 12))
    assert [(unit.id, unit.stage, unit.error) for unit in footer.quarantined] == [
        ("d", "load", "OSError"),
        ("b", "write", "ArrowInvalid"),
    ]
    table = pq.read_table(io.BytesIO(writer.output.read(part_key("abcd0123", 12))))
    assert table.column("id").to_pylist() == ["a", "c"]


def test_error_that_is_not_of_a_row_is_raised(writer, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("of the program itself")

    monkeypatch.setattr(write_module, "commit", broken)
    with pytest.raises(ZeroDivisionError):
        write(shard(["a", "b"], []), writer=writer)
    assert list(writer.output.keys("predictions/")) == []


def test_reasons_of_unpaired_surrogates_or_no_text_are_written(writer):
    failed = [
        quarantine_record("a", "a", "load", OSError("no file caf\udce9")),
        quarantine_record("b", "b", "load", MemoryError()),
    ]
    units, _, scalars = unpack(shard([], []))
    assert write(pack(units, quarantine_table(failed), scalars), writer=writer).to_pylist()[0]["quarantined"] == 2
    lost = pq.read_table(io.BytesIO(writer.output.read(quarantine_key("abcd0123", 12))))
    assert lost.column("message").to_pylist() == ["no file caf\\udce9", "no reason was given"]
