"""Interleave two attempts of one shard with different results in every order, where each may die before any step.

Always units = rows + quarantined, and the quarantine is that of the winning part.
"""

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

from pipeline.runtime.driver.quarantine_parts import list_quarantine, update_quarantine
from pipeline.runtime.records.committed import read_receipts_of_parts
from pipeline.runtime.records.run_file import Run
from pipeline.sinks.ownership import RUN_FILE
from pipeline.sinks.parts import QUARANTINE_SCHEMA, Footer, Quarantined, commit, part_key, quarantine_key, read_footer
from pipeline.storage import Store

NAME, SHARD = "0a1b2c3d", 7
UNITS = ("a", "b", "c")
PART, QUARANTINE = part_key(NAME, SHARD), quarantine_key(NAME, SHARD)
STEPS = {PART: "put part", QUARANTINE: "put quarantine"}

Choice = tuple[int, str]  # (attempt, "continue" with its next step or "die")


class Died(BaseException):
    """Raised in an attempt to stop it as if its process had died."""


class Stepped(Store):
    """A store that pauses before each step of a commit."""

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
    """A commit in a thread that advances one step at a time. `at`: its next step, None once it has ended."""

    def __init__(self, uri: str, bad: Sequence[str]) -> None:
        self.at: str | None = None
        self.steps: list[str] = []
        self.died = False
        self.committed: Footer | None = None
        self._actions: queue.Queue[str] = queue.Queue()
        self._reached: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._commit, args=(Stepped(uri, self._pause), bad), daemon=True)
        self._thread.start()
        self.at = self._reached.get()

    def do(self, action: str) -> None:
        """Do the next step, or die before it."""
        if action == "continue" and self.at is not None:
            self.steps.append(self.at)
        self.died = action == "die"
        self._actions.put(action)
        self.at = self._reached.get()

    def _pause(self, step: str) -> None:
        self._reached.put(step)
        if self._actions.get() == "die":
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
    """Return the footer of an attempt that quarantined these units, with messages that identify the attempt."""
    units = tuple(
        Quarantined(id=unit, uri=unit, stage="load", error="OSError", message=f"one of {len(bad)}", attempts=1)
        for unit in bad
    )
    values = {"run": NAME, "shard": SHARD, "segment": 0, "plan": "0f", "seconds": {}}
    return Footer(rows=len(UNITS) - len(bad), quarantined=units, **values)


def orders(follow: Callable[[Sequence[Choice]], Sequence[tuple[Choice, list[Choice]]]]) -> Iterator[list[Choice]]:
    """Yield every order. `follow` takes the prescribed choices, continues on its own, and returns the alternatives."""
    pending: list[list[Choice]] = [[]]
    while pending:
        prescribed = pending.pop()
        taken = follow(prescribed)
        chosen = [choice for choice, _ in taken]
        yield chosen
        for place in range(len(prescribed), len(taken)):
            pending.extend([*chosen[:place], other] for other in taken[place][1])


def rows(store: Store, key: str) -> list[dict[str, object]]:
    return pq.read_table(io.BytesIO(store.read(key))).to_pylist()


def check_moment(store: Store) -> None:
    """Assert that readers see the part of one attempt or none, and only the quarantine of that attempt."""
    there = set(store.keys("predictions/")) | set(store.keys("quarantine/"))
    if not there:
        return
    assert there <= {PART, QUARANTINE}
    assert PART in there
    footer = read_footer(store, PART)
    bad = [unit.id for unit in footer.quarantined]
    assert [row["id"] for row in rows(store, PART)] == [unit for unit in UNITS if unit not in bad]
    if QUARANTINE in there:
        recorded = pa.Table.from_pylist([dataclasses.asdict(unit) for unit in footer.quarantined], QUARANTINE_SCHEMA)
        assert rows(store, QUARANTINE) == recorded.to_pylist()


def check_whole(store: Store) -> None:
    """Assert that every unit is there once, as a row or in quarantine."""
    check_moment(store)
    there = set(store.keys("quarantine/"))
    quarantined = [row["id"] for row in rows(store, QUARANTINE)] if there else []
    assert sorted([*(row["id"] for row in rows(store, PART)), *quarantined]) == list(UNITS)


@pytest.mark.parametrize(
    ("first", "second", "count"), [(["c"], [], 34), (["c"], ["a", "b"], 58)], ids=["one", "others"]
)
def test_two_attempts_with_different_results_are_never_mixed(
    tmp_path: Path, first: list[str], second: list[str], count: int
) -> None:
    attempts: list[Attempt] = []
    outputs = iter(range(10_000))

    def follow(prescribed: Sequence[Choice]) -> list[tuple[Choice, list[Choice]]]:
        store = Store(str(tmp_path / str(next(outputs))))
        store.put(RUN_FILE, json.dumps({"run": NAME}).encode())
        attempts[:] = [Attempt(store.uri, bad) for bad in (first, second)]
        taken: list[tuple[Choice, list[Choice]]] = []
        while able := [(who, how) for who in (0, 1) if attempts[who].at for how in ("continue", "die")]:
            choice = prescribed[len(taken)] if len(taken) < len(prescribed) else able[0]
            taken.append((choice, [other for other in able if other != choice]))
            attempts[choice[0]].do(choice[1])
            if len(taken) >= len(prescribed):  # earlier moments were checked in another order
                check_moment(store)
        check_end(store)
        return taken

    def check_end(store: Store) -> None:
        ended = [attempt.committed for attempt in attempts if attempt.committed is not None]
        assert len(ended) == sum(not attempt.died for attempt in attempts), "only killed attempts fail"
        if ended:
            assert ended == [read_footer(store, PART)] * len(ended), "all attempts return the footer of the part"
            check_whole(store)
        if any("put part" in attempt.steps for attempt in attempts):
            receipts = dict(read_receipts_of_parts(store, NAME, [SHARD]))
            receipt, run = receipts[SHARD], Run(run=NAME, input="", fingerprint={}, record={})
            update_quarantine(store, run, [], list_quarantine(store), receipts)
            assert receipt.rows + receipt.quarantined == len(UNITS)
            check_whole(store)

    seen, steps = [], set()
    for order in orders(follow):
        seen.append(tuple(order))
        steps.update(tuple(attempt.steps) for attempt in attempts)
    assert ("put part",) in steps, "some died between a part and its quarantine"
    assert any("read footer" in some for some in steps), "some attempts lost the race"
    assert any(some[-1:] == ("put quarantine",) for some in steps)
    assert len(seen) == len(set(seen)) == count, "every order was followed, and once"
