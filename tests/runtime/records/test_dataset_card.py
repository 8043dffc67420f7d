"""`datasets.load_dataset(OUTPUT)` reads the predictions, whatever else OUTPUT holds."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pytest

from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.runtime.records.dataset_card import CARD, put_card
from pipeline.runtime.records.listing import put_listing
from pipeline.runtime.records.quarantine import quarantine_record
from pipeline.sinks.ownership import RUN_FILE
from pipeline.sinks.parts import Footer, commit
from pipeline.sinks.schema import output_schema
from pipeline.sources import SourceOptions, discover, source_for
from pipeline.storage import Store

RUN = "0a1b2c3d"


@pytest.fixture
def output(tmp_path: Path) -> Store:
    """An OUTPUT with a plan, entries left out, and a part with a quarantined unit."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("one\ntwo\n")
    (tmp_path / "in/b.xyz").write_text("left out")
    store, source = Store(str(tmp_path / "out")), source_for("auto", SourceOptions())
    store.put(RUN_FILE, json.dumps({"run": RUN}).encode())
    plan = freeze_plan(store, source, lambda: discover(str(tmp_path / "in"), source), ShardSizing(unit_bytes=1))
    assert plan.listing is not None
    put_listing(store, RUN, plan.listing)
    schema = output_schema({"label": "string", "embedding": ["float32"]})
    row = {"id": "a.txt#0", "uri": "a.txt", "version": "1", "segment": 0, "label": "x", "embedding": [1.0, 2.0]}
    bad = quarantine_record("a.txt#4", "a.txt", "load", ValueError("bad"), attempts=1)
    footer = Footer(run=RUN, shard=0, segment=0, plan="", rows=1, quarantined=(bad,), seconds={})
    commit(store, pa.Table.from_pylist([row], schema), footer)
    put_card(store)
    return store


def test_load_dataset_of_output_gives_the_predictions(output: Store, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    found = datasets.load_dataset(output.uri, split="train", cache_dir=cache)
    assert (found["id"], found["embedding"]) == (["a.txt#0"], [[1.0, 2.0]])
    by_files = datasets.load_dataset(
        "parquet", data_files=f"{output.uri}/predictions/*.parquet", split="train", cache_dir=cache
    )
    assert by_files.to_list() == found.to_list()
    bad = datasets.load_dataset(output.uri, "quarantine", split="train", cache_dir=cache)
    assert (bad["id"], bad["message"]) == (["a.txt#4"], ["bad"])


def test_readme_of_the_user_is_left_alone(output: Store) -> None:
    output.put(CARD, b"mine")
    put_card(output)
    assert output.read(CARD) == b"mine"
