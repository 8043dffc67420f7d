"""OUTPUT deleted under a run and used again: nothing of the old run stays in what is the new one's."""

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
    """As a person does it."""
    if not store.uri.startswith("s3:"):
        shutil.rmtree(store.uri)
        return
    for key in list(store.keys()):
        store.delete(key)


def used_again(store: Store) -> None:
    delete(store)
    claim(store, THEIRS)


def test_the_owner_is_the_run_that_run_json_names(store: Store) -> None:
    check_owner(store, OURS)
    with pytest.raises(
        OutputLost, match=rf"{store.uri} is no longer the OUTPUT of run {THEIRS}: it belongs to run {OURS}"
    ):
        check_owner(store, THEIRS)
    delete(store)
    with pytest.raises(AccessError, match=rf"no longer the OUTPUT of run {OURS}: _run/run.json was deleted"):
        check_owner(store, OURS)


@pytest.mark.parametrize("lose", [delete, used_again])
def test_nothing_is_put_into_an_output_that_is_lost(store: Store, lose: Callable[[Store], None]) -> None:
    lose(store)
    before = list(store.keys())
    with pytest.raises(OutputLost):
        commit(store, make_table(3), make_footer(3, failed=1))
    assert list(store.keys()) == before


@pytest.mark.parametrize("lose", [delete, used_again])
@pytest.mark.parametrize("point", ["commit.part-before", "commit.part-put", "commit.quarantine-put"])
def test_output_lost_within_a_commit_is_left_as_it_is(
    store: Store, lose: Callable[[Store], None], point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted, and used again, at each step of a commit, which was made to wait there."""
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


def test_a_part_of_the_new_run_is_not_deleted(store: Store) -> None:
    """It has one of the same number by then."""

    def put_late() -> None:
        with checking_ownership(store, OURS, part_key(OURS, 7), quarantine_key(OURS, 7)):
            used_again(store)
            commit(store, make_table(3), dataclasses.replace(make_footer(3), run=THEIRS))
            store.put(part_key(OURS, 7), b"late")

    with pytest.raises(OutputLost):
        put_late()
    assert list(store.keys()) == [RUN_FILE, part_key(THEIRS, 7)]
