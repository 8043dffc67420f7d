"""Examples in docs/reading-results.md and docs/export.md: each runs as written, on runs of small checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.export.export import export
from pipeline.reference.published_configs import MASKED_LM, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.results import open_run
from tests import example_runs
from tests.test_docs import ROOT, code_blocks

PAGE = ROOT / "docs/reading-results.md"
BLOCKS = code_blocks(PAGE, "python")


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, image_run: Path, flow_run: Path, clip_run: Path, checkpoint: Path
) -> Path:
    """The folder in which the examples run."""
    folder = tmp_path_factory.mktemp("examples")
    for name, output in {"labels": image_run, "flow": flow_run, "rebuilt": clip_run}.items():
        (folder / name).symlink_to(output)
    (folder / "sentences.txt").write_text("One [MASK] line.\nTwo [MASK] and [MASK].\n")
    model = make_checkpoint(MASKED_LM, small(MASKED_LM), folder / "texts")
    example_runs.run("fill-mask", folder / "sentences.txt", folder / "filled", model)
    example_runs.run("feature-extraction", image_run.parent / "in", folder / "features", checkpoint, max_quarantine=0.5)
    return folder


@pytest.fixture
def results_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """`results_of(text)`: run the example that contains the text; return its variables, its last value as `result`."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")

    def run(text: str) -> dict[str, Any]:
        (block,) = (block for block in BLOCKS if text in block)
        *lines, last = block.strip().splitlines()
        if last.startswith(("duckdb", "pl.")):
            last = f"result = {last}"
        found: dict[str, Any] = {}
        exec("\n".join([*lines, last]), found)
        return found

    return run


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_each_example_runs(block: str, results_of: Callable[[str], dict[str, Any]]) -> None:
    results_of(block)


def test_examples_give_what_the_page_says(results_of: Callable[[str], dict[str, Any]], folder: Path) -> None:
    count = len(example_runs.IMAGES)
    opened = results_of("labels.quarantined()")
    assert (len(opened["frame"]), opened["labels"].quarantined().num_rows) == (count, 1)
    assert sum(number for _, number in results_of("value_counts")["result"].rows()) == count
    assert len(results_of("as second")["result"]) == count
    assert len(results_of("unnest")["best"]) == 3
    by_project, by_arrow = (results_of(text)["motion"] for text in ("flow.flow", "pyarrow.dataset"))
    np.testing.assert_array_equal(by_project, by_arrow)
    assert results_of("worst.mp4")["frames"].shape == (16, 16, 16, 3)
    assert results_of("np.argsort")["nearest"][0] == 0
    loaded = results_of("load_dataset")
    assert [loaded[name].num_rows for name in ("predictions", "quarantined", "same")] == [count, 1, count]
    assert results_of("any_value")["result"][0][:2] == ("BadMedium", 1)


def test_export_examples_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    export(open_run("labels"), "dataset", "dataset")
    for block in code_blocks(ROOT / "docs/export.md", "python"):
        found: dict[str, Any] = {}
        exec(block, found)
    assert found["exported"].written == 2


def test_outputs_page_has_every_column(folder: Path) -> None:
    page = (ROOT / "docs/outputs.md").read_text()
    for output in ("labels", "filled", "flow", "rebuilt", "features"):
        columns = pq.read_schema(next((folder / output / "predictions").iterdir())).names
        assert [column for column in columns if f"`{column}`" not in page] == []
