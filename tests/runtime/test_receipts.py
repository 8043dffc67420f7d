"""What drivers have heard is kept, and what they have not is found again."""

import pytest

from pipeline.runtime import receipts
from pipeline.runtime.receipts import Ledger, Receipt, read_receipts
from pipeline.runtime.resume import committed, heard_of, recover
from pipeline.sinks.parts import Footer, Quarantined, commit, part_key, quarantine_key
from pipeline.sinks.schema import output_schema
from pipeline.storage import Store


def receipt(shard: int, rows: int = 4) -> Receipt:
    seconds = {"seconds_load": 0.1, "seconds_predict": 0.2, "seconds_write": 0.3}
    return Receipt(shard=shard, segment=0, rows=rows, quarantined=1, bytes=100, **seconds)


@pytest.fixture
def output(tmp_path) -> Store:
    return Store(str(tmp_path))


def put_part(output: Store, run: str, shard: int, bad: tuple[str, ...] = ()) -> int:
    lost = tuple(Quarantined(id=name, uri=name, stage="load", error="E", message="m", attempts=1) for name in bad)
    footer = Footer(
        run=run, shard=shard, segment=0, plan="0f", rows=0, quarantined=lost, seconds={"load": 0.5, "predict": 1.5}
    )
    return commit(output, output_schema({"label": "string"}).empty_table(), footer)[2]


def test_receipts_are_flushed_now_and_then_and_at_the_end(output, monkeypatch):
    ledger = Ledger(output=output)
    ledger.add(receipt(0), scheduled=True)
    assert read_receipts(output) == {}
    monkeypatch.setattr(receipts, "FLUSH_SECONDS", 0)
    ledger.add(receipt(1), scheduled=True)
    assert set(read_receipts(output)) == {0, 1}
    monkeypatch.setattr(receipts, "FLUSH_SECONDS", 1000)
    ledger.add(receipt(2), scheduled=False)
    ledger.flush()
    ledger.flush()
    assert len(list(output.names("_run/receipts/"))) == 2, "an empty flush writes nothing"
    heard = read_receipts(output)
    assert {shard: bool(found.driver) for shard, found in heard.items()} == {0: True, 1: True, 2: False}
    assert heard[0] == ledger.by_shard[0]
    assert heard[0].units == 5


def test_of_several_receipts_of_a_shard_the_last_counts(output):
    for rows in (4, 3, 2):
        ledger = Ledger(output=output)
        ledger.add(receipt(0, rows), scheduled=True)
        ledger.flush()
    assert read_receipts(output)[0].rows == 2


def test_done_are_the_parts_of_this_run_and_nothing_else(output):
    for shard in (0, 3):
        put_part(output, "aaaa0000", shard)
    put_part(output, "bbbb0000", 1)
    output.put("predictions/notes.txt", b"")
    assert committed(output, "aaaa0000") == {0, 3}
    ledger = Ledger(output=output)
    for shard in (0, 1):
        ledger.add(receipt(shard), scheduled=True)
    ledger.flush()
    assert set(heard_of(output, {0, 3})) == {0}, "a part that was deleted is not done, whatever was heard of it"


def test_parts_nobody_heard_of_tell_of_themselves_and_are_made_whole(output):
    size = put_part(output, "aaaa0000", 0, bad=("x", "y"))
    put_part(output, "aaaa0000", 7)
    output.delete(quarantine_key("aaaa0000", 0))
    assert [found.quarantined for found in recover(output, "aaaa0000", {7, 0}, heal=False)] == [2, 0]
    assert list(output.names("quarantine/")) == []
    first, second = recover(output, "aaaa0000", {7, 0})
    assert (first.shard, first.quarantined, first.bytes, first.seconds_predict) == (0, 2, size, 1.5)
    assert second.shard == 7
    assert list(output.names("quarantine/")) == [quarantine_key("aaaa0000", 0)]
    assert output.size(part_key("aaaa0000", 0)) == size
