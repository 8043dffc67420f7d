"""If OUTPUT is deleted and reused during a run, the old run leaves nothing in it."""

import dataclasses
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import faultpoints
from pipeline.sinks.ownership import RUN_FILE, OutputLost, check_owner, checking_ownership
from pipeline.sinks.parts import commit, part_key, quarantine_key
from pipeline.storage import AccessError, Store
from tests.sinks.test_parts import make_footer, make_table

OURS, THEIRS = "0a1b2c", "f00f00"


def claim(store: Store, run: str) -> None:
    store.put(RUN_FILE, json.dumps({"run": run}).encode())


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    uri = str(tmp_path / "out") if request.param == "local" else request.getfixturevalue("s3").bucket("owned")
    claim(Store(uri), OURS)
    return Store(uri)


def delete(store: Store) -> None:
    """Delete OUTPUT as a user does."""
    if not store.uri.startswith("s3:"):
        shutil.rmtree(store.uri)
        return
    for key in list(store.keys()):
        store.delete(key)


def used_again(store: Store) -> None:
    delete(store)
    claim(store, THEIRS)


def test_owner_is_the_run_in_run_json(store: Store) -> None:
    check_owner(store, OURS)
    with pytest.raises(
        OutputLost, match=rf"{store.uri} is no longer the OUTPUT of run {THEIRS}: it belongs to run {OURS}"
    ):
        check_owner(store, THEIRS)
    delete(store)
    with pytest.raises(AccessError, match=rf"no longer the OUTPUT of run {OURS}: _run/run.json was deleted"):
        check_owner(store, OURS)


@pytest.mark.parametrize("lose", [delete, used_again])
def test_nothing_is_written_to_a_lost_output(store: Store, lose: Callable[[Store], None]) -> None:
    lose(store)
    before = list(store.keys())
    with pytest.raises(OutputLost):
        commit(store, make_table(3), make_footer(3, failed=1))
    assert list(store.keys()) == before


@pytest.mark.parametrize("lose", [delete, used_again])
@pytest.mark.parametrize("point", ["commit.part-before", "commit.part-put", "commit.quarantine-put"])
def test_commit_leaves_nothing_in_an_output_that_is_lost_meanwhile(
    store: Store, lose: Callable[[Store], None], point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OUTPUT is deleted, or deleted and reused, while the commit is stopped at each of its steps."""
    stops, ended = tmp_path / "points", []
    stops.mkdir()
    (stops / point).write_text("stop")
    monkeypatch.setenv(faultpoints.VARIABLE, str(stops))

    def attempt() -> None:
        with pytest.raises(OutputLost):
            commit(store, make_table(3), make_footer(3, failed=1))
        ended.append(True)

    writer = threading.Thread(target=attempt)
    writer.start()
    while not (taken := list(stops.glob(f"{point}.*"))):
        assert writer.is_alive()
    lose(store)
    taken[0].unlink()
    writer.join()
    assert ended
    assert list(store.keys()) == ([RUN_FILE] if lose is used_again else [])


def test_part_of_the_new_run_is_not_deleted(store: Store) -> None:
    """The new run has a part of the same shard number."""

    def put_late() -> None:
        with checking_ownership(store, OURS, part_key(OURS, 7), quarantine_key(OURS, 7)):
            used_again(store)
            commit(store, make_table(3), dataclasses.replace(make_footer(3), run=THEIRS))
            store.put(part_key(OURS, 7), b"late")

    with pytest.raises(OutputLost):
        put_late()
    assert list(store.keys()) == [RUN_FILE, part_key(THEIRS, 7)]
