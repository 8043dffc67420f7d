"""Originals that hang or crash their reader cost neither the report nor the others."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from pipeline.originals import originals
from pipeline.originals.originals import Absent, UnitRef, read_originals
from pipeline.originals.preview import Preview
from pipeline.results import Results, open_run
from pipeline.sandbox import Started
from pipeline.sources.source import Piece
from tests import example_runs

CRASHES = "cats/b.png"


def crash(_: Any, folder: str, piece: Piece, wanted: frozenset[str], done: int) -> Iterator[Any]:
    if done:
        return
    yield Started(piece.key)
    if piece.key == CRASHES:
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)  # another thread may get the signal, and a little later
    yield piece.key, Preview(text="fine", letters=4), ""


def hang(_: Any, folder: str, piece: Piece, wanted: frozenset[str], done: int) -> Iterator[Any]:
    yield Started(piece.key)
    time.sleep(60)


@pytest.fixture(autouse=True)
def by_value() -> Iterator[None]:
    """Send functions of this file to child processes, which cannot import it, by value."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def units(results: Results) -> list[UnitRef]:
    names = [(row["id"], row["uri"]) for part in results.parts() for row in results.rows(["id", "uri"], parts=[part])]
    shards = [number for number, part in enumerate(results.parts()) for _ in results.rows(["id"], parts=[part])]
    return [UnitRef(unit_id, uri, shard) for (unit_id, uri), shard in zip(names, shards, strict=True)]


def test_an_original_that_crashes_its_reader_is_absent_alone(image_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(originals, "read_previews", crash)
    results = open_run(image_run)
    found = read_originals(results.store, results.run, units(results))
    assert sorted(found) == sorted(example_runs.IMAGES)
    reasons = {unit_id: each.reason for unit_id, each in found.items() if isinstance(each, Absent)}
    assert list(reasons) == [CRASHES]
    assert reasons[CRASHES].startswith("Crashed: the child process died of signal 11")


def test_originals_have_a_time_limit_for_all_of_them(image_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(originals, "read_previews", hang)
    monkeypatch.setattr(originals, "TOTAL_SECONDS", 2.0)
    results, started = open_run(image_run), time.monotonic()
    found = read_originals(results.store, results.run, units(results))
    assert time.monotonic() - started < 20
    late = Absent("reading originals took more than 2 s, the limit of a report")
    assert found == dict.fromkeys(example_runs.IMAGES, late)


def test_no_more_originals_than_the_limit_are_read(image_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(originals, "MAX_ORIGINALS", 3)
    results = open_run(image_run)
    found = read_originals(results.store, results.run, units(results))
    assert [unit_id for unit_id, each in found.items() if isinstance(each, Preview)] == [
        unit.id for unit in units(results)[:3]
    ]
    assert found[units(results)[-1].id] == Absent("a report shows at most 3 originals")
