"""Stored latents as inputs: rows of an earlier run's parts, under the ids of the inputs that were encoded."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.media import MediumKind
from pipeline.sources.source import SourceOptions
from pipeline.sources.stored_latents_source import STORED_LATENTS
from pipeline.storage import Store


@pytest.mark.parametrize("medium", ["text", "image", "frame_pair", "clip", "array"])
def test_units_are_the_stored_columns_whatever_the_task_reads(tmp_path: Path, medium: MediumKind) -> None:
    row = {
        "id": "a.mp4#0.000",
        "uri": "/in/a.mp4",
        "version": "1",
        "latents": [1.0, 2.0],
        "num_latents": 1,
        "d_latents": 2,
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "part.parquet")
    columns = ("latents", "num_latents", "d_latents")
    source = STORED_LATENTS.configured(SourceOptions(medium=medium, columns=columns))
    store = Store(str(tmp_path))
    (entry,) = store.entries()
    (unit,) = (unit for piece in source.pieces(store, entry) for unit in source.units(store, piece))
    assert (unit.id, unit.uri, unit.version) == ("a.mp4#0.000", "/in/a.mp4", "1")
    medium_columns = unit.decode()
    assert list(medium_columns.pop("latents")) == [1.0, 2.0]
    assert medium_columns == {"num_latents": 1, "d_latents": 2}
