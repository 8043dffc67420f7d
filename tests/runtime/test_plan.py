"""The plan is frozen once: later runs plan what is new, and a race has one winner."""

from pathlib import Path

import pytest

from pipeline.runtime.errors import UsageError
from pipeline.runtime.plan import Cut, Plan, cut_shards, freeze
from pipeline.runtime.segments import Segment, pieces_of, read_plan_file, read_segments
from pipeline.sources import IMAGES, Piece, find
from pipeline.storage import Store

CUT = Cut(unit_bytes=1000, shard_size=4)


class Containers:
    """A source whose files tell their units only when they are opened."""

    name, extensions = "containers", IMAGES.extensions

    def pieces(self, store, entry):  # noqa: ARG002
        yield Piece(key=entry.key, version=entry.version, size=entry.size)

    def units(self, store, piece):  # noqa: ARG002
        return iter(())


def put(folder: Path, *names: str, content: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content or name)


def planned(output: Store, plan: Plan) -> dict[int, list[str]]:
    """Keys by shard, as load tasks find them."""
    rows = [row for file in plan.files for row in read_plan_file(output, file.name, file.sha256).to_pylist()]
    assert [row["shard"] for row in rows] == list(range(plan.shards))
    assert all(row["units"] == len(row["pieces"]) for row in rows)
    return {row["shard"]: [piece.key for piece in pieces_of(row)] for row in rows}


def run_plan(tmp_path: Path, cut: Cut = CUT, *, redo: bool = False) -> tuple[Store, Plan]:
    output = Store(str(tmp_path / "out"))
    return output, freeze(output, IMAGES, lambda: find(str(tmp_path / "in"), IMAGES), cut, redo=redo)


def test_every_input_is_planned_once_in_order(tmp_path):
    put(tmp_path / "in", *(f"{n:02d}.jpg" for n in range(10)), "a/é #1.png", "notes.txt")
    output, plan = run_plan(tmp_path)
    keys = [f"{n:02d}.jpg" for n in range(10)] + ["a/é #1.png"]
    assert planned(output, plan) == {0: keys[:4], 1: keys[4:8], 2: keys[8:]}
    assert (plan.units, plan.shards, len(plan.segments), plan.changed) == (11, 3, 1, 0)


def test_planning_again_adopts_what_is_frozen(tmp_path):
    put(tmp_path / "in", "a.jpg", "b.jpg")
    _, first = run_plan(tmp_path)
    output, second = run_plan(tmp_path)
    assert second.segments == first.segments == read_segments(output)


def test_new_inputs_make_a_segment_that_numbers_on(tmp_path):
    put(tmp_path / "in", *(f"{n}.jpg" for n in range(1, 10, 2)))
    run_plan(tmp_path)
    put(tmp_path / "in", *(f"{n}.jpg" for n in range(0, 10, 2)))
    output, plan = run_plan(tmp_path)
    assert [segment.first_shard for segment in plan.segments] == [0, 2]
    shards = planned(output, plan)
    assert [len(keys) for keys in shards.values()] == [4, 1, 4, 1]
    assert shards[2] + shards[3] == ["0.jpg", "2.jpg", "4.jpg", "6.jpg", "8.jpg"]
    assert run_plan(tmp_path)[1].segments == plan.segments


def test_changed_inputs_are_counted_and_left_or_planned_again(tmp_path):
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
    assert run_plan(tmp_path, Cut(unit_bytes=1, shard_size=4, limit=5))[1].units == 5
    assert run_plan(tmp_path, Cut(unit_bytes=1, shard_size=4, limit=5))[1].units == 5
    output, plan = run_plan(tmp_path, Cut(unit_bytes=1, shard_size=4, limit=7))
    assert (plan.units, len(plan.segments)) == (7, 2)
    assert planned(output, plan)[2] == ["5.jpg", "6.jpg"]


def test_limit_of_inputs_whose_units_are_unknown_is_refused(tmp_path):
    put(tmp_path / "in", "a.jpg")

    def found():
        return find(str(tmp_path / "in"), Containers())

    with pytest.raises(UsageError, match=r"limit \(3\).*a\.jpg"):
        freeze(Store(str(tmp_path / "out")), Containers(), found, Cut(unit_bytes=1, limit=3))
    assert freeze(Store(str(tmp_path / "out")), Containers(), found, Cut(unit_bytes=1)).units is None


def test_who_loses_the_race_adopts_the_winner_and_plans_the_rest(tmp_path, monkeypatch):
    put(tmp_path / "in", "a.jpg", "b.jpg")
    output = Store(str(tmp_path / "out"))
    put_if_absent, won = Store.put_if_absent, []

    def race(store, key, data):
        """Just before our segment is put, another driver lists an input more and puts its own."""
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
    files = {key for key in output.names("_run/plan/") if key.endswith(".parquet")}
    assert files == {file.name for file in plan.files}, "the loser's plan files are gone"


def test_shards_are_cut_by_bytes_in_or_arrays_out():
    def piece(size: int, begin: int | None = None, end: int | None = None) -> Piece:
        return Piece(key="k", version="v", size=size, begin=begin, end=end, units=1)

    def lengths(pieces, unit_bytes):
        return [len(shard) for shard in cut_shards(pieces, Cut(unit_bytes=unit_bytes))]

    assert lengths([piece(1)] * 600, 1) == [256, 256, 88]
    assert lengths([piece(16 << 20)] * 5, 1) == [2, 2, 1]
    assert lengths([piece(1)] * 10, 8 << 20) == [4, 4, 2]
    assert lengths([piece(1 << 30, 0, 8 << 20)] * 5, 1) == [4, 1], "a range counts as its bytes"


def test_a_plan_file_that_is_not_the_named_one_is_refused(tmp_path):
    put(tmp_path / "in", "a.jpg")
    output, plan = run_plan(tmp_path)
    file = plan.files[0]
    output.put(file.name, b"something else")
    with pytest.raises(ValueError, match=rf"{file.name} has the digest \w+, its segment says {file.sha256}"):
        read_plan_file(output, file.name, file.sha256)


def test_a_listing_out_of_order_is_an_error_and_no_second_row(tmp_path):
    put(tmp_path / "in", "a.jpg", "b.jpg")

    def reversed_listing():
        found = find(str(tmp_path / "in"), IMAGES)
        found.entries = iter(list(found.entries)[::-1])
        return found

    with pytest.raises(RuntimeError, match=r"not in byte order.*a\.jpg.*b\.jpg"):
        freeze(Store(str(tmp_path / "out")), IMAGES, reversed_listing, CUT)


def test_segment_round_trip(tmp_path):
    put(tmp_path / "in", "a.jpg")
    _, plan = run_plan(tmp_path)
    assert Segment.from_json(plan.segments[0].to_json()) == plan.segments[0]


def test_pieces_of_unknown_units_are_cut_by_a_guess_at_them():
    ranges = [Piece(key="a.txt", version="v", size=1 << 30, begin=at << 18, end=(at + 1) << 18) for at in range(3)]
    files = [Piece(key=f"{n}.txt", version="v", size=9, begin=0, end=9) for n in range(300)]
    shards = list(cut_shards([*ranges, *files], Cut(unit_bytes=4096)))
    assert [len(shard) for shard in shards] == [1, 1, 1, 256, 44]
