"""Receipts are stored, and shards without one are recovered from their parts."""

import dataclasses
import io
import json

import pyarrow.parquet as pq
import pytest

from pipeline.runtime.records import receipts
from pipeline.runtime.records.committed import (
    check_parts,
    committed_receipts,
    foreign_parts_message,
    list_parts,
    read_receipts_of_parts,
)
from pipeline.runtime.records.receipts import Ledger, Receipt, read_receipts
from pipeline.sinks.ownership import RUN_FILE, OutputLost
from pipeline.sinks.parts import Footer, Quarantined, commit, part_key
from pipeline.sinks.schema import output_schema
from pipeline.storage import Store

RUN_NAME = "aaaa0000"


def receipt(shard: int, rows: int = 4) -> Receipt:
    seconds = {"seconds_load": 0.1, "seconds_predict": 0.2, "seconds_write": 0.3}
    return Receipt(run=RUN_NAME, shard=shard, segment=0, rows=rows, quarantined=1, bytes=100, **seconds)


def claim(output: Store, run: str) -> None:
    output.put(RUN_FILE, json.dumps({"run": run}).encode())


@pytest.fixture
def output(tmp_path) -> Store:
    """Return an OUTPUT that belongs to the run aaaa0000."""
    store = Store(str(tmp_path))
    claim(store, RUN_NAME)
    return store


def put_part(output: Store, run: str, shard: int, bad: tuple[str, ...] = ()) -> int:
    lost = tuple(Quarantined(id=name, uri=name, stage="load", error="E", message="m", attempts=1) for name in bad)
    footer = Footer(
        run=run, shard=shard, segment=0, plan="0f", rows=0, quarantined=lost, seconds={"load": 0.5, "predict": 1.5}
    )
    return commit(output, output_schema({"label": "string"}).empty_table(), footer).size


def test_receipts_are_flushed_periodically_and_at_the_end(output, monkeypatch):
    ledger = Ledger(output=output)
    ledger.add(receipt(0), scheduled=True)
    assert read_receipts(output, RUN_NAME) == {}
    monkeypatch.setattr(receipts, "FLUSH_SECONDS", 0)
    ledger.add(receipt(1), scheduled=True)
    assert set(read_receipts(output, RUN_NAME)) == {0, 1}
    monkeypatch.setattr(receipts, "FLUSH_SECONDS", 1000)
    ledger.add(receipt(2), scheduled=False)
    ledger.flush()
    ledger.flush()
    assert len(list(output.keys("_run/receipts/"))) == 2, "an empty flush writes nothing"
    recorded = read_receipts(output, RUN_NAME)
    assert {shard: bool(found.driver) for shard, found in recorded.items()} == {0: True, 1: True, 2: False}
    assert recorded[0] == ledger.by_shard[0]
    assert recorded[0].units == 5


def test_last_of_several_receipts_of_a_shard_counts(output):
    for rows in (4, 3, 2):
        ledger = Ledger(output=output)
        ledger.add(receipt(0, rows), scheduled=True)
        ledger.flush()
    assert read_receipts(output, RUN_NAME)[0].rows == 2


def test_receipts_of_another_run_are_ignored(output):
    """Receipts of a driver whose OUTPUT was replaced between its last check and its put."""
    other = dataclasses.replace(receipt(0, rows=9), run="bbbb0000")
    sink = io.BytesIO()
    pq.write_table(receipts.receipts_table([other]), sink)
    output.put("_run/receipts/other.parquet", sink.getvalue())
    assert read_receipts(output, RUN_NAME) == {}
    ledger = Ledger(output=output)
    ledger.add(receipt(0), scheduled=True)
    ledger.flush()
    assert read_receipts(output, RUN_NAME)[0].rows == 4
    assert read_receipts(output, "bbbb0000")[0].rows == 9


def test_receipts_are_not_written_into_the_output_of_another_run(output):
    ledger = Ledger(output=output)
    ledger.add(receipt(0), scheduled=True)
    claim(output, "bbbb0000")
    with pytest.raises(OutputLost, match=r"no longer the OUTPUT of run aaaa0000: it belongs to run bbbb0000"):
        ledger.flush()
    assert list(output.keys("_run/receipts/")) == []


def test_parts_of_other_runs_are_named(output):
    put_part(output, RUN_NAME, 0)
    assert list_parts(output, RUN_NAME).foreign == []
    output.put("predictions/notes.txt", b"")
    keys = [part_key("bbbb0000", shard) for shard in range(5)]
    for key in keys:
        output.put(key, b"")
    assert list_parts(output, RUN_NAME).foreign == keys
    words = foreign_parts_message(output, keys)
    assert words.startswith(
        f"{output.uri}/predictions/ holds 5 parts of another run (predictions/part-bbbb0000-00000000"
    )
    assert words.count("part-bbbb0000") == 3
    assert "holds 1 part of another run (predictions/part-bbbb0000-00000000.parquet)" in foreign_parts_message(
        output, keys[:1]
    )


def test_only_parts_of_this_run_count_as_committed(output):
    for shard in (0, 3):
        put_part(output, "aaaa0000", shard)
    output.put(part_key("bbbb0000", 1), b"")
    output.put("predictions/notes.txt", b"")
    listed = list_parts(output, RUN_NAME)
    assert listed.shards == {0, 3}
    stamp = output.stamp(part_key(RUN_NAME, 0))
    receipts_of_two = {shard: dataclasses.replace(receipt(shard), plan="0f", stamp=stamp) for shard in (0, 1)}
    checked = check_parts(output, RUN_NAME, listed, receipts_of_two, lambda _: {"0f"})
    assert checked.receipts.keys() == {0, 3}, "a part that was deleted is not done, whatever its receipt says"
    assert checked.receipts[0] == receipts_of_two[0]
    assert [each.shard for each in checked.unrecorded] == [3]
    assert set(checked.wrong) == {part_key("bbbb0000", 1)}


def test_receipts_of_parts_are_read_from_their_footers(output):
    size = put_part(output, "aaaa0000", 0, bad=("x", "y"))
    put_part(output, "aaaa0000", 7)
    output.put(part_key("aaaa0000", 8), b"garbage")
    (zero, first), (seven, second), (eight, error) = read_receipts_of_parts(output, "aaaa0000", {8, 9, 7, 0})
    assert (zero, first.shard, first.quarantined, first.bytes, first.seconds_predict) == (0, 0, 2, size, 1.5)
    assert (seven, second.shard, second.stamp) == (7, 7, output.stamp(part_key("aaaa0000", 7)))
    assert eight == 8
    assert str(error).endswith("part-aaaa0000-00000008.parquet is not a part that this project wrote")
    assert [each.quarantined for each in committed_receipts(output, "aaaa0000")] == [2, 0]
