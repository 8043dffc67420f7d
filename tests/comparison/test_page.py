"""comparison.html: figures, units that differ most with their originals, and hostile names and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline import compare, open_run
from pipeline.reference.published_configs import FLOW, MASKED_LM, MULTIMODAL, SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from tests import example_runs
from tests.comparison.another_run import another_run
from tests.report.parsed_page import Page, read_page

HOSTILE = "<script>alert(1)</script>[red]\u202e"


def page_of(a: Path, b: Path, dest: Path, **options: Any) -> Page:
    """Compare two runs and assert what holds for all pages."""
    compare(a, b, dest, **options)
    return read_page((dest / "comparison.html").read_text())


def test_page_shows_labels_that_changed_with_their_images(image_run: Path, tmp_path: Path) -> None:
    def other(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] == "e.png":
            return row | {"label": HOSTILE, "score": 0.75}
        return row | ({"score": row["score"] + 0.125} if row["id"] == "dogs/c.jpg" else {})

    before = {row["id"]: row["label"] for row in open_run(image_run).rows(["id", "label"])}
    (tmp_path / "labels.csv").write_text(f"id,label\ne.png,{before['e.png']}\ndogs/c.jpg,{before['dogs/c.jpg']}\n")
    second = another_run(image_run, tmp_path / "out", other)
    page = page_of(image_run, second, tmp_path / "changes", labels=tmp_path / "labels.csv")
    assert "labels agree 87.5 %" in page.text
    assert "Labels agree for 7 of 8 units: 87.5 %" in page.text
    shown = "<script>alert(1)</script>[red]\\u202e"
    assert f"{before['e.png']} {shown} 1" in page.text
    assert f"A: {before['e.png']}" in page.text
    assert f"B: {shown} 75.0 %" in page.text
    assert {image["alt"] for image in page.all("img")} == {"e.png", "dogs/c.jpg"}
    assert "accuracy of A 100.0 % accuracy of B 50.0 %" in page.text
    assert "\u202e" not in page.html


def test_page_of_equal_runs_says_so(image_run: Path, tmp_path: Path) -> None:
    page = page_of(image_run, another_run(image_run, tmp_path / "out"), tmp_path / "changes")
    assert "Labels agree for 8 of 8 units: 100.0 %" in page.text
    assert "They were made with the same checkpoint, options and versions." in page.text
    assert page.all("img") == []


def test_page_shows_texts_that_changed(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("A pleasure.\n<b>Dull</b> & long.\n")
    checkpoint = make_checkpoint(SEQUENCE, small(SEQUENCE), tmp_path / "model")
    example_runs.run("text-classification", tmp_path / "lines.txt", tmp_path / "one", checkpoint)
    second = another_run(tmp_path / "one", tmp_path / "two", lambda row: row | {"label": "another"})
    page = page_of(tmp_path / "one", second, tmp_path / "changes")
    assert "<b>Dull</b> & long." in page.text
    assert "B: another" in page.text


def test_page_shows_flow_of_both_runs(flow_run: Path, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(FLOW, small(FLOW), tmp_path / "model", seed=7)
    example_runs.run("optical-flow", flow_run.parent / "in", tmp_path / "two", checkpoint)
    page = page_of(flow_run, tmp_path / "two", tmp_path / "changes")
    alts = [image["alt"] or "" for image in page.all("img")]
    for words in ("First frame of", "Difference of both flows of", "Flow in A of", "Flow in B of"):
        assert sum(alt.startswith(words) for alt in alts) == 4
    assert "pixels on average, 95 % of the pixels below" in page.text


def test_page_of_points_has_no_frames(flow_run: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        source, model = flow_run.parent / "in", flow_run.parent / "model"
        example_runs.run("optical-flow", source, tmp_path / name, model, points=[(3, 4)])
    page = page_of(tmp_path / "one", tmp_path / "two", tmp_path / "changes")
    assert page.all("img") == []
    assert "Flow is the same for 5 of 5 units" in page.text


def test_page_plays_clips_of_both_runs(clip_run: Path, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(MULTIMODAL, small(MULTIMODAL, **example_runs.CLIP), tmp_path / "model", seed=7)
    example_runs.run("multimodal-autoencoding", clip_run.parent / "in", tmp_path / "two", checkpoint)
    page = page_of(clip_run, tmp_path / "two", tmp_path / "changes")
    labels = [video["aria-label"] or "" for video in page.all("video")]
    assert [sum(label.startswith(words) for label in labels) for words in ("Original", "Reconstruction")] == [2, 4]
    assert "PSNR between A and B: video" in page.text


def test_page_shows_tokens_that_changed(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one [MASK] here\nnone\n")
    for name, seed in {"one": 0, "two": 7}.items():
        checkpoint = make_checkpoint(MASKED_LM, small(MASKED_LM), tmp_path / f"model-{name}", seed=seed)
        example_runs.run("fill-mask", tmp_path / "lines.txt", tmp_path / name, checkpoint)
    page = page_of(tmp_path / "one", tmp_path / "two", tmp_path / "changes")
    assert "Best tokens that changed" in page.text
    assert len(page.all("span", "class", "mask")) == 2


def test_page_shows_embeddings_that_differ(image_run: Path, checkpoint: Path, tmp_path: Path) -> None:
    example_runs.run("feature-extraction", image_run.parent / "in", tmp_path / "one", checkpoint, max_quarantine=0.5)

    def moved(row: dict[str, Any]) -> dict[str, Any]:
        return row | ({"embedding": [value + 1 for value in row["embedding"]]} if row["id"] == "e.png" else {})

    page = page_of(tmp_path / "one", another_run(tmp_path / "one", tmp_path / "two", moved), tmp_path / "changes")
    assert [image["alt"] for image in page.all("img")] == ["e.png"]
    assert "cosine 0." in page.text


@pytest.mark.parametrize("unfinished", ["A", "B"])
def test_a_run_that_is_not_finished_is_compared_as_far_as_it_is(
    image_run: Path, tmp_path: Path, unfinished: str
) -> None:
    second = another_run(image_run, tmp_path / "out")
    sorted((second / "predictions").iterdir())[-1].unlink()
    runs = (second, image_run) if unfinished == "A" else (image_run, second)
    found = compare(*runs, tmp_path / "changes")
    assert found.units.both < 8
    assert found.units.only_a + found.units.only_b == 8 - found.units.both
    assert any(line.startswith(f"{unfinished} is not finished: ") for line in found.describe())
    assert f"{unfinished} is not finished: " in read_page((tmp_path / "changes/comparison.html").read_text()).text
