"""The example of docs/labelling.md runs as written, and its table has the columns that the page names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline import compare
from pipeline.comparison.compare import COMPARED
from tests.comparison.another_run import another_run
from tests.test_docs import ROOT, code_blocks

PAGE = ROOT / "docs/labelling.md"


def other_label(row: dict[str, Any]) -> dict[str, Any]:
    return row | ({"label": "another"} if row["id"] == "e.png" else {})


def test_example_runs(
    image_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels-1").symlink_to(image_run)
    another_run(image_run, tmp_path / "labels-2", other_label)
    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in code_blocks(PAGE, "python") if "compare(" in block)
    exec(block, {})
    printed = capsys.readouterr().out
    assert printed.startswith("8 0.875 ")
    assert "e.png ['label'] " in printed


def test_columns_are_documented(image_run: Path, flow_run: Path, clip_run: Path, tmp_path: Path) -> None:
    section = PAGE.read_text().partition("## Two runs compared")[2]
    named = set(re.findall(r"`(\w+)`", section))
    for number, run in enumerate((image_run, flow_run, clip_run)):
        found = compare(run, another_run(run, tmp_path / str(number)))
        assert set(found.differences.column_names) <= named
    assert {"label", "flow", "video", "audio", "embedding"} <= {*COMPARED} & named
