"""Planning in a sandbox: the same plan, and a file that hangs or crashes its parser does not affect others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.runtime.plan.duplicate_ids import check_unique_ids
from pipeline.runtime.plan.input_pieces import pieces_of_entries
from pipeline.runtime.plan.isolated_source import isolated
from pipeline.runtime.plan.unit_limit import count_units
from pipeline.sandbox import ResourceLimits, Sandbox
from pipeline.sources import IMAGES, PARQUET, TEXT, Piece, SourceOptions, discover, source_for
from pipeline.sources.record_source import RecordSource
from pipeline.storage import AccessError, Entry, Store
from tests import harmful_units
from tests.sample_videos import make_video

LIMITS = ResourceLimits(60.0, 1 << 30)
OPTIONS = SourceOptions(column="text", id_column="name", keep=("number",))


@pytest.fixture
def tables(tmp_path: Path) -> Store:
    """Three tables of ten rows, with ids of their own."""
    folder = tmp_path / "in"
    folder.mkdir()
    for letter in "abc":
        names = [f"{letter}{number}" for number in range(10)]
        table = pa.table({"text": names, "name": names, "number": range(10)})
        pq.write_table(table, folder / f"{letter}.parquet")
    return Store(str(folder))


def damaging(store: Store, name: str) -> None:
    (Path(store.uri) / name).write_bytes((Path(store.uri) / "a.parquet").read_bytes())


def test_plan_is_the_same_as_without_a_sandbox(tables: Store) -> None:
    source = PARQUET.configured(OPTIONS)
    (Path(tables.uri) / "damaged.parquet").write_bytes(b"PAR1 but no more")
    entries = list(tables.entries())
    with isolated(source, LIMITS) as opened:
        assert list(pieces_of_entries(opened, tables, entries)) == list(pieces_of_entries(source, tables, entries))
        for entry in entries:
            assert opened.kept(tables, entry) == source.kept(tables, entry)
            assert list(opened.ids(tables, entry)) == list(source.ids(tables, entry))
            (piece,) = source.pieces(tables, entry)
            assert count_units(opened, tables, piece, 7) == count_units(source, tables, piece, 7)
        assert [unit.id for unit in opened.units(tables, next(iter(source.pieces(tables, entries[0]))))] == [
            f"a{number}" for number in range(10)
        ]
        assert (opened.name, opened.extensions, opened.media) == (source.name, source.extensions, source.media)


@pytest.mark.parametrize("harm", ["crash", *(pytest.param(harm, marks=pytest.mark.slow) for harm in ("hang", "hog"))])
def test_file_that_is_harmful_to_open_is_planned_as_one_unit(tables: Store, harm: str) -> None:
    key = f"open-{harm}.parquet"
    damaging(tables, key)
    source = harmful_units.HARMFUL_PARQUET.configured(OPTIONS)
    undamaged = PARQUET.configured(OPTIONS)
    entries = list(tables.entries())
    with isolated(source, ResourceLimits(3.0, 1 << 30) if harm == "hang" else LIMITS) as opened:
        pieces = list(pieces_of_entries(opened, tables, entries))
        assert [piece for piece in pieces if piece.key != key] == list(
            pieces_of_entries(undamaged, tables, entries[:3])
        )
        assert [piece for piece in pieces if piece.key == key] == [
            Piece(key=key, version=entries[3].version, size=entries[3].size, units=1)
        ]
        if harm == "crash":
            assert opened.kept(tables, entries[3]) == pa.schema([])
            check_unique_ids(opened, discover(tables.uri, opened))
            (unit,) = opened.units(tables, pieces[-1])
            assert unit.id == key


def test_video_that_crashes_the_decoder_is_counted_as_it_is_loaded(tmp_path: Path) -> None:
    make_video(tmp_path / "play-crash.mp4", seconds=0.4)
    store, source = Store(str(tmp_path)), harmful_units.HARMFUL_VIDEO.configured(SourceOptions(medium="frame_pair"))
    with isolated(source, LIMITS) as opened:
        (piece,) = opened.pieces(store, next(store.entries()))
        assert count_units(opened, store, piece, 100) == 4, "three that it gives, and what stands for the others"
        assert count_units(opened, store, piece, 2) == 2


def test_errors_that_end_planning_leave_the_sandbox(tables: Store) -> None:
    with isolated(PARQUET.configured(SourceOptions(column="words")), LIMITS) as opened:
        with pytest.raises(AccessError, match=r"a\.parquet.*column 'words' not found.*text, name, number"):
            list(pieces_of_entries(opened, tables, tables.entries()))
        with pytest.raises(ValueError, match="fps"):
            opened.configured(SourceOptions(fps=2.0))


@dataclass(frozen=True)
class Greedy(RecordSource):
    """Takes nearly all memory for a while at one file, and takes the others for damaged meanwhile."""

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        if entry.key.startswith("b"):
            self.__dict__.setdefault("taken", bytearray(900 << 20)).clear()
        seems = os.environ.get("SEEMS_DAMAGED")
        if seems and not Path(seems).exists():
            Path(seems).touch()
            return iter([Piece(key=entry.key, version=entry.version, size=entry.size, units=1)])
        return super().pieces(store, entry)


def test_file_that_seemed_damaged_when_memory_was_short_is_opened_again(
    tables: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEEMS_DAMAGED", str(tmp_path / "once"))
    source = harmful_units.of(Greedy, PARQUET.configured(SourceOptions(column="text")))
    entries = [entry for entry in tables.entries() if entry.key == "b.parquet"]
    with isolated(source, LIMITS) as opened:
        (piece,) = pieces_of_entries(opened, tables, entries)
    assert piece.units == 10


def test_only_files_that_must_be_opened_are_sent_to_the_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call of the sandbox takes a third of a millisecond, and there may be millions of images next to an archive."""
    for name in ("a.jpg", "b.tar", "c.jpg", "d.jpg"):
        (tmp_path / name).write_bytes(b"something else")
    opened_keys: list[str] = []
    run = Sandbox.run

    def noted(child: Sandbox, *given: Any, **more: Any) -> Iterator[Any]:
        opened_keys.append(given[-1].key)
        return run(child, *given, **more)

    monkeypatch.setattr(Sandbox, "run", noted)
    store = Store(str(tmp_path))
    with isolated(source_for("auto", SourceOptions(medium="image")), LIMITS) as opened:
        pieces = list(pieces_of_entries(opened, store, store.entries()))
        assert {opened.kept(store, entry) for entry in store.entries() if entry.key != "b.tar"} == {pa.schema([])}
    assert [piece.key for piece in pieces] == ["a.jpg", "b.tar", "c.jpg", "d.jpg"]
    assert opened_keys == ["b.tar"]


@pytest.mark.parametrize(("source", "limits"), [(IMAGES, LIMITS), (TEXT, None)])
def test_sources_that_open_no_files_or_are_trusted_need_no_sandbox(source: Any, limits: ResourceLimits | None) -> None:
    with isolated(source, limits) as opened:
        assert opened is source
