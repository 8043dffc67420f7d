"""What the verbs print about one of something: 1 row, not 1 rows."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from tests.report.parsed_page import read_page

PLURAL = re.compile(r"(?<![\d.,/:-])1 (?:[a-z]+ )?[a-z]+(?<!s)s\b(?! is| was| planned)")
NO_NOUNS = ("1 is", "1 was", "1 s", "1 units/s")


def perceiver(*arguments: str | Path) -> str:
    """Return everything that a verb prints."""
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    return result.output


def wrong_plurals(text: str) -> list[str]:
    return [found[0] for found in PLURAL.finditer(text) if not found[0].startswith(NO_NOUNS)]


def test_wrong_plurals_are_found() -> None:
    assert wrong_plurals("in 1 parts; 1 quarantined units, 21 rows, 1.1 rows, 1 row of rows") == [
        "1 parts",
        "1 quarantined units",
    ]


@pytest.mark.usefixtures("described_cluster")
def test_a_run_of_one_image_is_described_in_the_singular(image_folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = "image-classification", image_folder, output, "--checkpoint", checkpoint, "--limit", 1
    texts = [perceiver(verb, *command) for verb in ("plan", "run", "run")]
    texts += [perceiver("status", output), perceiver("export", output, tmp_path / "rows.csv", "--to", "csv")]
    texts.append(read_page((output / "report.html").read_text()).text)
    texts.append(perceiver("compare", output, shutil.copytree(output, tmp_path / "copy"), tmp_path / "changes"))
    texts.append(read_page((tmp_path / "changes/comparison.html").read_text()).text)
    for text, words in zip(
        texts,
        (
            "1 in 1 segment, 1 left",
            "1 row and",
            "resuming: 1 of 1 shard",
            "in 1 segment",
            "1 row",
            "From all parts (1 row).",
            "labels agree for 1 of 1 unit",
            "Labels agree for 1 of 1 unit",
        ),
        strict=True,
    ):
        assert words in text
        assert wrong_plurals(text) == []


@pytest.mark.usefixtures("described_cluster")
def test_a_run_of_one_damaged_image_is_described_in_the_singular(
    tmp_path: Path, checkpoint: Path, write_images
) -> None:
    write_images(tmp_path / "in", [1], damaged=[1])
    (tmp_path / "in/.hidden").touch()
    places = tmp_path / "in", tmp_path / "out"
    text = perceiver("run", "image-classification", *places, "--checkpoint", checkpoint, "--max-quarantine", 1)
    text += read_page((tmp_path / "out/report.html").read_text()).text
    assert "BadMedium: 1 unit" in text
    assert wrong_plurals(text) == []
