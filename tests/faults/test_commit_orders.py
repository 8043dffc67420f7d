"""Two attempts of one shard that end differently, step by step in every order, each of which may die after any step:
units in = rows + quarantined, and what is quarantined is what the part that won says."""

from __future__ import annotations

import dataclasses
import io
import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.runtime.records.committed import receipts_from_footers
from pipeline.sinks.ownership import RUN_FILE
from pipeline.sinks.parts import Footer, Quarantined, commit, part_key, quarantine_key, read_footer
from pipeline.storage import Store

NAME, SHARD = "0a1b2c3d", 7
UNITS = ("a", "b", "c")
PART, QUARANTINE = part_key(NAME, SHARD), quarantine_key(NAME, SHARD)
STEPS = {PART: "put part", QUARANTINE: "put quarantine"}

Choice = tuple[int, str]  # which attempt, and what it does: "go on" to its next step, or "die"


class Died(BaseException):
    """An attempt's process is gone: nothing of it is done any more."""


class Stepped(Store):
    """A store that waits for a word before each step of a commit."""

    def __init__(self, uri: str, pause: Callable[[str], None]) -> None:
        super().__init__(uri)
        self._pause = pause

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._pause(STEPS[key])
        return super().put_if_absent(key, data)

    def open(self, key: str) -> BinaryIO:
        self._pause("read footer")
        return super().open(key)


class Attempt:
    """A commit that goes on only as it is told. `at`: the step before which it stands, None once it has ended."""

    def __init__(self, uri: str, bad: Sequence[str]) -> None:
        self.at: str | None = None
        self.steps: list[str] = []
        self.died = False
        self.committed: Footer | None = None
        self._told: queue.Queue[str] = queue.Queue()
        self._reached: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._commit, args=(Stepped(uri, self._pause), bad), daemon=True)
        self._thread.start()
        self.at = self._reached.get()

    def do(self, action: str) -> None:
        """One step, or its death before it."""
        if action == "go on" and self.at is not None:
            self.steps.append(self.at)
        self.died = action == "die"
        self._told.put(action)
        self.at = self._reached.get()

    def _pause(self, step: str) -> None:
        self._reached.put(step)
        if self._told.get() == "die":
            raise Died

    def _commit(self, store: Store, bad: Sequence[str]) -> None:
        good = [unit for unit in UNITS if unit not in bad]
        try:
            self.committed = commit(store, pa.table({"id": good}), footer_of(bad))[0]
        except Died:
            pass
        finally:
            self._reached.put(None)


def footer_of(bad: Sequence[str]) -> Footer:
    """Of an attempt that quarantined these units; its reasons tell it from another."""
    units = tuple(
        Quarantined(id=unit, uri=unit, stage="load", error="OSError", message=f"one of {len(bad)}", attempts=1)
        for unit in bad
    )
    values = {"run": NAME, "shard": SHARD, "segment": 0, "plan": "0f", "seconds": {}}
    return Footer(rows=len(UNITS) - len(bad), quarantined=units, **values)


def orders(follow: Callable[[Sequence[Choice]], Sequence[tuple[Choice, list[Choice]]]]) -> Iterator[list[Choice]]:
    """Every order that there is: `follow` goes as it is told and then on by itself, and says where it could have gone
    otherwise."""
    pending: list[list[Choice]] = [[]]
    while pending:
        told = pending.pop()
        went = follow(told)
        chosen = [choice for choice, _ in went]
        yield chosen
        for place in range(len(told), len(went)):
            pending.extend([*chosen[:place], other] for other in went[place][1])


def rows(store: Store, key: str) -> list[dict[str, object]]:
    return pq.read_table(io.BytesIO(store.read(key))).to_pylist()


def check_moment(store: Store) -> None:
    """What anyone may see at any time: one attempt's part or none, and with it that attempt's quarantine or none."""
    there = set(store.keys("predictions/")) | set(store.keys("quarantine/"))
    if not there:
        return
    assert there <= {PART, QUARANTINE}
    assert PART in there
    footer = read_footer(store, PART)
    bad = [unit.id for unit in footer.quarantined]
    assert [row["id"] for row in rows(store, PART)] == [unit for unit in UNITS if unit not in bad]
    if QUARANTINE in there:
        assert rows(store, QUARANTINE) == [dataclasses.asdict(unit) for unit in footer.quarantined]


def check_whole(store: Store) -> None:
    """Every unit is there once, as a row or in quarantine."""
    check_moment(store)
    there = set(store.keys("quarantine/"))
    quarantined = [row["id"] for row in rows(store, QUARANTINE)] if there else []
    assert sorted([*(row["id"] for row in rows(store, PART)), *quarantined]) == list(UNITS)


@pytest.mark.parametrize(
    ("first", "second", "count"), [(["c"], [], 34), (["c"], ["a", "b"], 58)], ids=["one", "others"]
)
def test_two_attempts_that_end_differently_are_never_mixed_in_any_order(
    tmp_path: Path, first: list[str], second: list[str], count: int
) -> None:
    attempts: list[Attempt] = []
    outputs = iter(range(10_000))

    def follow(told: Sequence[Choice]) -> list[tuple[Choice, list[Choice]]]:
        store = Store(str(tmp_path / str(next(outputs))))
        store.put(RUN_FILE, json.dumps({"run": NAME}).encode())
        attempts[:] = [Attempt(store.uri, bad) for bad in (first, second)]
        went: list[tuple[Choice, list[Choice]]] = []
        while able := [(who, how) for who in (0, 1) if attempts[who].at for how in ("go on", "die")]:
            choice = told[len(went)] if len(went) < len(told) else able[0]
            went.append((choice, [other for other in able if other != choice]))
            attempts[choice[0]].do(choice[1])
            if len(went) >= len(told):  # before that it is as it was in another order
                check_moment(store)
        check_end(store)
        return went

    def check_end(store: Store) -> None:
        ended = [attempt.committed for attempt in attempts if attempt.committed is not None]
        assert len(ended) == sum(not attempt.died for attempt in attempts), "nobody fails who is not killed"
        if ended:
            assert ended == [read_footer(store, PART)] * len(ended), "all of them say what the part says"
            check_whole(store)
        if any("put part" in attempt.steps for attempt in attempts):
            (receipt,) = receipts_from_footers(store, NAME, [SHARD])
            assert receipt.rows + receipt.quarantined == len(UNITS)
            check_whole(store)

    seen, steps = [], set()
    for order in orders(follow):
        seen.append(tuple(order))
        steps.update(tuple(attempt.steps) for attempt in attempts)
    assert ("put part",) in steps, "some died between a part and its quarantine"
    assert any("read footer" in some for some in steps), "some lost"
    assert any(some[-1:] == ("put quarantine",) for some in steps)
    assert len(seen) == len(set(seen)) == count, "every order was followed, and once"
