"""The manifest is written when a run ends, into the OUTPUT of that run only."""

import json
from pathlib import Path

import pytest

from pipeline.runtime.records.listing import ListedInputs
from pipeline.runtime.records.manifest import MANIFEST, Summary, put_manifest
from pipeline.sinks.ownership import RUN_FILE, OutputLost
from pipeline.storage import Store

COUNTS = {"segments": 1, "shards": 2, "units": 7, "rows": 6, "quarantined": 1, "bytes": 100, "changed": 0, "resumed": 0}


def summary(output: Store, run: str) -> Summary:
    listed = ListedInputs(read=7, left_out={"hidden": 2}, first={"hidden": [".a", ".b"]})
    return Summary(run=run, output=output.uri, seconds=1.0, listed=listed, **COUNTS)


@pytest.fixture
def output(tmp_path: Path) -> Store:
    """Return an OUTPUT that belongs to the run aaaa0000."""
    store = Store(str(tmp_path))
    store.put(RUN_FILE, json.dumps({"run": "aaaa0000"}).encode())
    return store


def test_finished_run_has_a_manifest(output):
    put_manifest(output, summary(output, "aaaa0000"), [])
    manifest = json.loads(output.read(MANIFEST))
    assert {name: manifest[name] for name in ("run", "parts", "rows")} == {"run": "aaaa0000", "parts": 2, "rows": 6}
    assert manifest["inputs"] == {
        "listed": 9,
        "read": 7,
        "left_out": {"hidden": 2},
        "first": {"hidden": [".a", ".b"]},
    }


def test_manifest_is_not_written_into_the_output_of_another_run(output):
    with pytest.raises(OutputLost, match="no longer the OUTPUT of run bbbb0000"):
        put_manifest(output, summary(output, "bbbb0000"), [])
    assert list(output.keys()) == [RUN_FILE]


@pytest.mark.parametrize("finished", [False, True])
def test_manifest_written_after_output_changed_hands_is_deleted(output, monkeypatch, finished):
    put = Store.put

    def late(store: Store, key: str, data: bytes) -> None:
        put(store, key, data)
        put(store, RUN_FILE, json.dumps({"run": "bbbb0000"}).encode())
        if finished:  # the new run, over it
            put(store, MANIFEST, b'{"run": "bbbb0000"}')

    monkeypatch.setattr(Store, "put", late)
    with pytest.raises(OutputLost, match="it belongs to run bbbb0000"):
        put_manifest(output, summary(output, "aaaa0000"), [])
    assert list(output.keys()) == ([MANIFEST, RUN_FILE] if finished else [RUN_FILE])
