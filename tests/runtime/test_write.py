"""Who commits first is right; everyone else goes on with the winner's numbers."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.runtime import retry
from pipeline.runtime.packing import pack
from pipeline.runtime.quarantine import quarantined, to_table
from pipeline.runtime.write import Writer, write
from pipeline.sinks.parts import part_key, quarantine_key, read_footer
from pipeline.storage import AccessError, StorageError, StorageFull, Store

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
    failed = to_table([quarantined(name, name, "load", OSError("cut short")) for name in bad])
    seconds = {"seconds_load": 1.5, "seconds_predict": 2.5}
    return pack(units, failed, {"shard": 12, "segment": 1, "plan": "0f", "fatal": fatal} | seconds)


@pytest.fixture
def writer(tmp_path) -> Writer:
    return Writer(output=Store(str(tmp_path)), run="abcd0123", columns=COLUMNS)


def test_a_part_and_its_quarantine_and_a_receipt(writer):
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


def test_the_loser_of_a_race_reports_the_winner(writer):
    write(shard(["a", "b", "c"], []), writer=writer)
    before = writer.output.read(part_key("abcd0123", 12))
    receipt = write(shard(["a"], ["b", "c"]), writer=writer).to_pylist()[0]
    assert (receipt["rows"], receipt["quarantined"]) == (3, 0)
    assert writer.output.read(part_key("abcd0123", 12)) == before
    assert list(writer.output.names("quarantine/")) == [], "no mix of two attempts"


def test_a_quarantine_part_that_the_winner_did_not_get_to_is_put_from_its_footer(writer):
    write(shard(["a", "b"], ["c"]), writer=writer)
    writer.output.delete(quarantine_key("abcd0123", 12))
    write(shard(["a", "b", "c"], []), writer=writer)
    lost = pq.read_table(io.BytesIO(writer.output.read(quarantine_key("abcd0123", 12))))
    assert lost.column("id").to_pylist() == ["c"]


def test_what_ended_the_load_goes_on_to_the_driver(writer):
    receipt = write(shard([], [], fatal="no access"), writer=writer).to_pylist()[0]
    assert (receipt["fatal"], receipt["shard"]) == ("no access", 12)
    assert list(writer.output.names()) == []


@pytest.mark.parametrize("error", [AccessError("no permission"), StorageFull("no room for 12 bytes in /data")])
def test_a_store_that_takes_nothing_ends_the_run(writer, monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(Store, "put_if_absent", refuse)
    assert write(shard(["a"], []), writer=writer).to_pylist()[0]["fatal"] == str(error)


def test_errors_that_pass_are_waited_for_and_others_raised(writer, monkeypatch):
    put, refusals = Store.put_if_absent, [StorageError("503", transient=True)] * 2
    monkeypatch.setattr(retry.time, "sleep", lambda _seconds: None)

    def sometimes(store, key, data):
        if refusals:
            raise refusals.pop()
        return put(store, key, data)

    monkeypatch.setattr(Store, "put_if_absent", sometimes)
    assert write(shard(["a"], []), writer=writer).to_pylist()[0]["rows"] == 1
    refusals.append(StorageError("not a store at all"))
    with pytest.raises(StorageError, match="not a store at all"):
        write(shard(["a"], []), writer=writer)
