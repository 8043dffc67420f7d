"""`Predictor` in pipelines of Ray Data: the rows of a run over the same table, for texts, image pairs and clips.

`test_batches.py` does so with images.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
from PIL import Image
from rich.console import Console

from pipeline.predictor.predictor import Predictor
from pipeline.reference.published_configs import FLOW, MASKED_LM, MULTIMODAL, SEQUENCE
from pipeline.results import open_run
from pipeline.runtime.driver.run import execute
from pipeline.runtime.options import RunOptions
from tests.predictor.conftest import CLIP
from tests.sample_videos import make_video

pytestmark = pytest.mark.slow

PLACES = {"id", "uri", "version", "segment", "frame_index"}  # of a row in INPUT; an item alone has none
COUNT, DAMAGED = 40, 13
NAMES = [f"item-{number:02d}" for number in range(COUNT)]


def frame(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()[2 * number : 2 * number + 14, :20]).save(file, "PNG")
    return file.getvalue()


def texts(_: Path) -> dict[str, list[Any]]:
    return {"text": [f"A [MASK] text about {number} things." for number in range(COUNT)]}


def pairs(_: Path) -> dict[str, list[Any]]:
    return {"left": [frame(at) for at in range(COUNT)], "right": [frame(at + 1) for at in range(COUNT)]}


def videos(folder: Path) -> dict[str, list[Any]]:
    """Return the bytes of videos of one to four clips."""
    paths = (make_video(folder / f"{at}.mp4", 0.3 + 0.6 * (at % 4), (32, 24), audio_rate=48_000) for at in range(COUNT))
    return {"video": [path.read_bytes() for path in paths]}


TASKS: dict[str, tuple[str, dict[str, Any], Callable[[Path], dict[str, list[Any]]], dict[str, Any]]] = {
    "text-classification": (SEQUENCE, {"max_position_embeddings": 64}, texts, {"blank_text": "quarantine"}),
    "fill-mask": (MASKED_LM, {"max_position_embeddings": 64}, texts, {"blank_text": "quarantine"}),
    "optical-flow": (FLOW, {}, pairs, {"column": "left,right"}),
    "multimodal-autoencoding": (MULTIMODAL, CLIP, videos, {"arrays": True}),
}
"""Of each task the class and sizes of the checkpoint, the columns of the table, and options."""


def assert_near(found: Any, expected: Any) -> None:
    """Assert that values are equal but for rounding."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        assert_near(list(found.values()), list(expected.values()))
    elif isinstance(expected, float | np.ndarray):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)
    elif isinstance(expected, list):
        for one, other in zip(found, expected, strict=True):
            assert_near(one, other)
    else:
        assert found == expected


@pytest.mark.parametrize("task", TASKS)
def test_rows_are_those_of_a_run_and_a_damaged_item_costs_one(
    task: str, checkpoints: Any, tmp_path: Path, cluster: None
) -> None:
    import ray.data

    model_class, sizes, columns, options = TASKS[task]
    checkpoint, table = str(checkpoints(model_class, **sizes)), columns(tmp_path)
    for column in table.values():
        column[DAMAGED] = "" if isinstance(column[DAMAGED], str) else b"junk"
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"name": NAMES, **table}), tmp_path / "in/items.parquet")
    values = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "checkpoint": checkpoint}
    values |= {"id_column": "name", "max_quarantine": 0.1, "report": False, "shard_size": 16}
    execute(RunOptions(task=task, **values, **options), console=Console(file=io.StringIO()))
    results = open_run(tmp_path / "out")

    found = ray.data.read_parquet(str(tmp_path / "in")).map_batches(
        Predictor,
        fn_constructor_args=(task,),
        fn_constructor_kwargs={"checkpoint": checkpoint, **options},
        compute=ray.data.ActorPoolStrategy(size=1),
        batch_size=16,
    )
    order = lambda row: (row["name"], row.get("clip_index") or 0)  # noqa: E731
    rows = sorted(found.take_all(), key=order)
    (lost,) = (row for row in rows if row["error"] is not None)
    (unit,) = results.quarantined().to_pylist()
    assert unit["id"].startswith(lost["name"])
    assert lost["name"] == NAMES[DAMAGED]
    assert lost["error"] == unit["error"]
    predicted, expected = [row for row in rows if row["error"] is None], list(results.rows())
    assert {row["name"] for row in predicted} == set(NAMES) - {NAMES[DAMAGED]}
    for row, other in zip(predicted, expected, strict=True):
        assert other["id"].startswith(row["name"])
        for name in other.keys() - PLACES - {"video", "audio"}:  # files, which differ if pixels do by rounding
            assert_near(row[name], other[name])
