"""The plan is frozen once: later runs plan what is new, and a race has one winner."""

import threading
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.input_pieces import OPENED, pieces_of_entries
from pipeline.runtime.plan.plan_files import (
    PlannedShard,
    Segment,
    pieces_in_row,
    put_plan_file,
    read_plan_file,
    read_segments,
)
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.sinks.run_records import DamagedRecord
from pipeline.sources import IMAGES, Piece, Unit, discover
from pipeline.sources.source import Source
from pipeline.storage import StorageError, Store

CUT = ShardSizing(unit_bytes=1000, shard_size=4)


@dataclass(frozen=True)
class Containers(Source):
    """A source whose files have one unit per byte, known only when they are opened."""

    name: str = "containers"
    extensions: frozenset[str] = IMAGES.extensions
    media: frozenset[str] = frozenset({"image"})
    opens: bool = True

    def configured(self, options):  # noqa: ARG002
        return self

    def pieces(self, store, entry):  # noqa: ARG002
        yield Piece(key=entry.key, version=entry.version, size=entry.size)

    def units(self, store, piece):
        for number in range(store.size(piece.key)):
            yield Unit(id=f"{piece.key}#{number}", uri=store.uri_of(piece.key), version=piece.version)


CONTAINERS = Containers()


def put(folder: Path, *names: str, content: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content or name)


def planned(output: Store, plan: Plan) -> dict[int, list[str]]:
    """Return the keys of each shard, as load tasks read them."""
    rows = [row for file in plan.files for row in read_plan_file(output, file.name, file.sha256).to_pylist()]
    assert [row["shard"] for row in rows] == list(range(plan.shards))
    assert all(row["units"] == len(row["pieces"]) for row in rows)
    return {row["shard"]: [piece.key for piece in pieces_in_row(row)] for row in rows}


def run_plan(tmp_path: Path, cut: ShardSizing = CUT, *, redo: bool = False) -> tuple[Store, Plan]:
    output = Store(str(tmp_path / "out"))
    return output, freeze_plan(output, IMAGES, lambda: discover(str(tmp_path / "in"), IMAGES), cut, redo=redo)


def test_every_input_is_planned_once_in_order(tmp_path):
    put(tmp_path / "in", *(f"{n:02d}.jpg" for n in range(10)), "a/é #1.png", "notes.txt")
    output, plan = run_plan(tmp_path)
    keys = [f"{n:02d}.jpg" for n in range(10)] + ["a/é #1.png"]
    assert planned(output, plan) == {0: keys[:4], 1: keys[4:8], 2: keys[8:]}
    assert (plan.units, plan.shards, len(plan.segments), plan.changed) == (11, 3, 1, 0)


def test_planning_again_adopts_the_frozen_plan(tmp_path):
    put(tmp_path / "in", "a.jpg", "b.jpg")
    _, first = run_plan(tmp_path)
    output, second = run_plan(tmp_path)
    assert second.segments == first.segments == read_segments(output)


def test_new_inputs_make_a_segment_with_the_next_shard_numbers(tmp_path):
    put(tmp_path / "in", *(f"{n}.jpg" for n in range(1, 10, 2)))
    run_plan(tmp_path)
    put(tmp_path / "in", *(f"{n}.jpg" for n in range(0, 10, 2)))
    output, plan = run_plan(tmp_path)
    assert [segment.first_shard for segment in plan.segments] == [0, 2]
    shards = planned(output, plan)
    assert [len(keys) for keys in shards.values()] == [4, 1, 4, 1]
    assert shards[2] + shards[3] == ["0.jpg", "2.jpg", "4.jpg", "6.jpg", "8.jpg"]
    assert run_plan(tmp_path)[1].segments == plan.segments


def test_changed_inputs_are_counted_and_kept_or_planned_again(tmp_path):
    put(tmp_path / "in", "a.jpg", "b.jpg", "c.jpg")
    run_plan(tmp_path)
    put(tmp_path / "in", "b.jpg", content="other")
    (tmp_path / "in/c.jpg").unlink()
    _, left = run_plan(tmp_path)
    assert (left.changed, len(left.segments)) == (1, 1)
    output, redone = run_plan(tmp_path, redo=True)
    assert planned(output, redone) == {0: ["a.jpg", "b.jpg", "c.jpg"], 1: ["b.jpg"]}
    _, again = run_plan(tmp_path, redo=True)
    assert again.segments == redone.segments, "the last segment of an input counts"


def test_limit_caps_all_segments_together(tmp_path):
    put(tmp_path / "in", *(f"{n}.jpg" for n in range(9)))
    assert run_plan(tmp_path, ShardSizing(unit_bytes=1, shard_size=4, limit=5))[1].units == 5
    assert run_plan(tmp_path, ShardSizing(unit_bytes=1, shard_size=4, limit=5))[1].units == 5
    output, plan = run_plan(tmp_path, ShardSizing(unit_bytes=1, shard_size=4, limit=7))
    assert (plan.units, len(plan.segments)) == (7, 2)
    assert planned(output, plan)[2] == ["5.jpg", "6.jpg"]


def test_limit_opens_containers_to_count_their_units(tmp_path):
    put(tmp_path / "in", "a.jpg", "b.jpg", "c.jpg", content="four")

    def frozen(limit: int | None) -> list[tuple[str, int | None]]:
        output = Store(str(tmp_path / f"out-{limit}"))
        plan = freeze_plan(output, CONTAINERS, found, ShardSizing(unit_bytes=1, limit=limit))
        assert plan.units is None
        rows = [row for file in plan.files for row in read_plan_file(output, file.name, file.sha256).to_pylist()]
        return [(piece.key, piece.most) for row in rows for piece in pieces_in_row(row)]

    def found():
        return discover(str(tmp_path / "in"), CONTAINERS)

    assert frozen(4) == [("a.jpg", 4)]
    assert frozen(6) == [("a.jpg", 6), ("b.jpg", 2)], "four of them are left for the second, which has four"
    assert frozen(None) == [("a.jpg", None), ("b.jpg", None), ("c.jpg", None)]
    assert frozen(6) == [("a.jpg", 6), ("b.jpg", 2)], "a later run plans no more"


def test_files_that_are_opened_are_planned_several_at_a_time_in_order(tmp_path):
    names = [f"{number:03d}.jpg" for number in range(100)]
    put(tmp_path / "in", *names)
    together = threading.Barrier(OPENED, timeout=20)

    class Slow(Containers):
        def pieces(self, store, entry):
            if int(entry.key[:3]) < OPENED:
                together.wait()  # each of the first ones waits until all of them are open
            return super().pieces(store, entry)

    found = discover(str(tmp_path / "in"), Slow())
    assert [piece.key for piece in pieces_of_entries(Slow(), found.store, found.entries)] == names


def test_files_that_need_no_opening_keep_their_place_in_order(tmp_path):
    names = [f"{number:03d}.jpg" for number in range(100)]
    put(tmp_path / "in", *names)

    class Mixed(Containers):
        def opens_file(self, entry):
            return int(entry.key[:3]) % 40 < 3

        def pieces(self, store, entry):
            if self.opens_file(entry):
                time.sleep(0.01)
            else:
                here.add(threading.current_thread())
            return super().pieces(store, entry)

    here = set()
    found = discover(str(tmp_path / "in"), Mixed())
    assert [piece.key for piece in pieces_of_entries(Mixed(), found.store, found.entries)] == names
    assert threading.current_thread() in here, "after the opened files are done, no thread is used"


def test_plan_file_stores_every_field_of_a_piece(tmp_path):
    every = {field.name: number for number, field in enumerate(fields(Piece))}
    members = {"left_out": [(".a", "hidden"), (".a", "hidden")], "links": [(512, 0)]}
    full = Piece(**every | {"key": "a/é", "version": "v", "other": "b", "kept": "{}"} | members)
    shards = [
        PlannedShard(pieces=[full]),
        PlannedShard(pieces=[Piece(key="c", version="w", size=2**40), replace(full, key="d")]),
    ]
    output = Store(str(tmp_path))
    file = put_plan_file(output, 0, 7, shards)
    rows = read_plan_file(output, file.name, file.sha256).to_pylist()
    assert [pieces_in_row(row) for row in rows] == [shard.pieces for shard in shards]
    assert [row["shard"] for row in rows] == [7, 8]


def test_losing_driver_adopts_the_winners_plan_and_plans_the_rest(tmp_path, monkeypatch):
    put(tmp_path / "in", "a.jpg", "b.jpg")
    output = Store(str(tmp_path / "out"))
    put_if_absent, won = Store.put_if_absent, []

    def race(store, key, data):
        """Just before this driver puts its segment, another one lists one more input and puts its own."""
        if key.endswith("segment-00000.json") and not won:
            won.append(True)
            put(tmp_path / "in", "c.jpg")
            won.append(run_plan(tmp_path)[1])
            put(tmp_path / "in", "d.jpg")
        return put_if_absent(store, key, data)

    monkeypatch.setattr(Store, "put_if_absent", race)
    _, plan = run_plan(tmp_path)
    assert plan.segments[0] == won[1].segments[0]
    assert planned(output, plan) == {0: ["a.jpg", "b.jpg", "c.jpg"], 1: ["d.jpg"]}
    files = {key for key in output.keys("_run/plan/") if key.endswith(".parquet")}
    assert files == {file.name for file in plan.files}, "the loser's plan files are gone"


def test_plan_file_with_another_digest_is_refused(tmp_path):
    put(tmp_path / "in", "a.jpg")
    output, plan = run_plan(tmp_path)
    file = plan.files[0]
    output.put(file.name, b"something else")
    with pytest.raises(DamagedRecord, match=rf"{file.name} changed: its digest is \w+, expected {file.sha256}"):
        read_plan_file(output, file.name, file.sha256)


def test_listing_out_of_order_is_an_error(tmp_path):
    put(tmp_path / "in", "a.jpg", "b.jpg")

    def reversed_listing():
        found = discover(str(tmp_path / "in"), IMAGES)
        found.entries = iter(list(found.entries)[::-1])
        return found

    with pytest.raises(StorageError, match=r"not in their byte order.*a\.jpg.*b\.jpg.*run the command again\."):
        freeze_plan(Store(str(tmp_path / "out")), IMAGES, reversed_listing, CUT)


def test_segment_round_trip(tmp_path):
    put(tmp_path / "in", "a.jpg")
    _, plan = run_plan(tmp_path)
    assert Segment.from_json(plan.segments[0].to_json()) == plan.segments[0]
