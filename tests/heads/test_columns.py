"""The tables in docs/outputs.md have exactly the columns of the heads, with their types."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.heads import HEADS, ColumnType, HeadOptions, head_for
from pipeline.heads.latent_columns import latent_column_types

PAGE = Path(__file__).parents[2] / "docs" / "outputs.md"
CLASSIFICATION = ("image-classification", "text-classification", "multimodal-autoencoding")
# Sets of options that together give every column of a task.
OPTIONS: dict[str, list[HeadOptions]] = {
    "fill-mask": [HeadOptions()],
    "text-classification": [HeadOptions(logits=True)],
    "image-classification": [HeadOptions(logits=True)],
    "optical-flow": [HeadOptions(points=((0, 0),)), HeadOptions(latents=True)],
    "multimodal-autoencoding": [HeadOptions(logits=True, arrays=True), HeadOptions(points=((0, 0),))],
    "feature-extraction": [HeadOptions()],
}


def documented(task: str) -> dict[str, str]:
    """Return the documented columns of a task with their types, in words."""
    section = PAGE.read_text().partition("\n## Columns\n")[2].partition("\n## ")[0]
    columns = {}
    for heading, _, body in (part.partition("\n") for part in section.split("\n### ")[1:]):
        for cells in table_rows(body):
            tasks = {"Labels": ", ".join(CLASSIFICATION), "Texts": cells[2]}.get(heading, heading)
            if task in tasks.split(", "):
                columns |= dict(columns_of_row(cells))
    return columns


def table_rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of the rows of all tables, without heads."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and cells[0].startswith("`"):
            yield cells


def columns_of_row(cells: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the columns of a row with their types: one type for all of them, or one for each."""
    names = re.findall(r"`(\w+)`", cells[0])
    types = [cells[1]] if "struct" in cells[1] else cells[1].split(", ")
    for at, name in enumerate(names):
        yield name, types[at] if len(types) == len(names) else types[0]


def in_words(column: ColumnType) -> str:
    """Return a type as the page writes it."""
    if isinstance(column, list):
        return f"list of {in_words(column[0])}"
    if isinstance(column, dict):
        return "struct of " + ", ".join(f"`{name}`" for name in column)
    return "struct of `bytes`, `path`" if column in ("png", "mp4", "wav") else column


@pytest.mark.parametrize("task", HEADS)
def test_documented_columns_are_those_of_the_head(task: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [HEADS[task].model_classes[0]]}))
    columns: dict[str, ColumnType] = {}
    for options in OPTIONS[task]:
        columns |= head_for(task, tmp_path, options).columns
    assert documented(task) == {name: in_words(column) for name, column in columns.items()}


def test_documented_latents_are_those_of_the_heads() -> None:
    assert documented("Latents") == {name: in_words(column) for name, column in latent_column_types("float16").items()}
