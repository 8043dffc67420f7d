"""The section about near duplicates: groups with their originals, and why there may be none."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.reference.published_configs import MASKED_LM
from pipeline.report.report import make_report
from pipeline.report.sections import near_duplicates
from pipeline.results import open_run
from tests import example_runs
from tests.report.parsed_page import Page, page_of, read_page

HOSTILE = "<script>alert(1)<\u202e.png"


def section(page: Page) -> str:
    """Return the text of the section, "" if there is none."""
    text = page.text
    return text[text.index("Near duplicates") : text.index("Quarantine")] if "Near duplicates" in text else ""


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, image_run: Path) -> Path:
    """OUTPUT with an embedding of its own for each image, but for copies: five of one, and two of another."""
    folder = tmp_path_factory.mktemp("features")
    shutil.copytree(image_run.parent / "in", folder / "in")
    (folder / "in/dogs/bad.png").unlink()
    for name in (HOSTILE, "z1.png", "z2.png", "z3.png"):
        shutil.copy(folder / "in/birds/owl.png", folder / "in" / name)
    shutil.copy(folder / "in/e.png", folder / "in/dogs/f.png")
    example_runs.run("feature-extraction", folder / "in", folder / "run", checkpoint, shard_size=2)
    seeds = {digest: seed for seed, digest in enumerate(sorted({digest_of(path) for path in files(folder / "in")}))}

    def drawn(row: dict) -> dict:
        chance = np.random.default_rng(seeds[digest_of(folder / "in" / row["id"])])
        return row | {"embedding": chance.normal(size=len(row["embedding"])).astype(np.float32)}

    return example_runs.copied_with_rows(folder / "run", folder / "out", drawn)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_groups_are_shown_with_their_originals_the_largest_first(features: Path) -> None:
    html = make_report(open_run(features))
    page = read_page(html)
    shown = section(page)
    assert "From all parts (13 rows). Units of a group resemble its first one" in shown
    assert "groups 2 units in them 7" in shown
    assert shown.index("Group of 5 units") < shown.index("And 2 more.") < shown.index("Group of 2 units")
    assert shown.count("cosine 1.0000") == 3
    assert shown.count(".png") == len(page.all("img", "class", "thumb")) == 5
    assert "<script>alert(1)<\\u202e.png" in shown
    assert "<script>" not in html
    assert "\u202e" not in html


def test_more_groups_are_counted(features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "SHOWN_GROUPS", 1)
    assert "And 1 other group." in section(page_of(features))


@pytest.mark.parametrize(("name", "most"), [("MAX_ROWS", 12), ("MAX_PARTS", 6)])
def test_large_runs_are_not_searched_and_the_page_says_so(
    features: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(near_duplicates, name, most)
    shown = section(page_of(features))
    assert "Not searched: the run has 13 rows in 7 parts, and a report searches at most" in shown
    assert "perceiver export OUTPUT FILE --to duplicates searches more." in shown
    assert "groups" not in shown


def test_page_says_that_no_units_resemble_each_other(features: Path, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)

    def different(row: dict) -> dict:
        return row | {"embedding": chance.normal(size=len(row["embedding"])).astype(np.float32)}

    output = example_runs.copied_with_rows(features, tmp_path / "out", different)
    assert "No units resemble each other: no two centered embeddings" in section(page_of(output))


def test_embeddings_that_are_not_finite_cost_the_section_only(features: Path, tmp_path: Path) -> None:
    def damaged(row: dict) -> dict:
        return row | ({"embedding": [float("nan")] * len(row["embedding"])} if row["id"] == "e.png" else {})

    output = example_runs.copied_with_rows(features, tmp_path / "out", damaged)
    page = page_of(output)
    assert "From all parts (13 rows). 32 values each. Without 1 unit whose embedding is not finite." in page.text
    assert "Not searched: embeddings of 1 unit are not finite: 'e.png'" in section(page)


def test_texts_are_shown(tmp_path: Path, text_models: dict[str, Path]) -> None:
    (tmp_path / "in").mkdir()
    lines = ["<b>a rose</b> is red", "nothing like it at all", "<b>a rose</b> is red", "one more line"]
    (tmp_path / "in/lines.txt").write_text("\n".join(lines))
    example_runs.run("feature-extraction", tmp_path / "in", tmp_path / "out", text_models[MASKED_LM])
    page = page_of(tmp_path / "out")
    assert "Group of 2 units <b>a rose</b> is red lines.txt#0 <b>a rose</b> is red" in section(page)
    assert len(page.all("p", "class", "quote")) == 2


def test_runs_without_embeddings_have_no_section(image_run: Path) -> None:
    assert section(page_of(image_run)) == ""
