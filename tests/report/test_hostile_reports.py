"""Names, labels and texts of hostile users do nothing in report.html, and are shown as they are stored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import skimage.data
from PIL import Image

from pipeline.reference.published_configs import MASKED_LM
from pipeline.report.report import make_report
from pipeline.results import open_run
from tests import example_runs
from tests.report.parsed_page import page_of, read_page

HOSTILE_NAMES = (
    "<img src=x onerror=alert(1)>.png",
    "\"'><svg onload=alert(1)>.png",
    "invoice\u202egnp.exe.png",
    "😀 & <b>.png",
    "{{ 7 * 7 }}{% raw %}.png",
)
HOSTILE_LABELS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\u202eabc",
    "</style><script>",
    "L" * 1_000_000,
]


def test_hostile_names_and_labels_are_inert(checkpoint: Path, tmp_path: Path) -> None:
    model = shutil.copytree(checkpoint, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    labels = HOSTILE_LABELS * len(config["id2label"])
    config["id2label"] = {key: labels[number] for number, key in enumerate(config["id2label"])}
    config["label2id"] = {}
    (model / "config.json").write_text(json.dumps(config))
    (tmp_path / "in").mkdir()
    for number, name in enumerate(HOSTILE_NAMES):
        image = skimage.data.astronaut()[40 * number : 40 * number + 50, 50:120]
        Image.fromarray(image).save(tmp_path / "in" / name)
    (tmp_path / "in/<script>alert(2)<.png").write_bytes(b"damaged <script>alert(3)</script>")
    example_runs.run("image-classification", tmp_path / "in", tmp_path / "out", model, max_quarantine=0.5)
    html = make_report(open_run(tmp_path / "out"))
    page = read_page(html)
    assert len(html) < 500_000  # labels of a megabyte are cut
    assert "\u202e" not in html
    assert "invoice\\u202egnp.exe.png" in page.text
    for name in (
        "<img src=x onerror=alert(1)>.png",
        "😀 & <b>.png",
        "{{ 7 * 7 }}{% raw %}.png",
        "<script>alert(2)<.png",
    ):
        assert name in page.text
    shown = {row["label"] for row in open_run(tmp_path / "out").rows(["label"])}
    assert all(
        (label[:20] if len(label) > 1000 else label.replace("\u202e", "\\u202e")) in page.text for label in shown
    )


def test_hostile_texts_are_inert_and_keep_their_direction(texts: Path, text_models: dict[str, Path]) -> None:
    hostile = ["<script>alert(1)</script> [MASK]", "\u202eright to left\x1b[31m [MASK]", "\"'></bdi></p><b> [MASK]"]
    (texts / "lines.txt").write_text("\n".join(hostile))
    output = texts.parent / "out"
    example_runs.run("fill-mask", texts, output, text_models[MASKED_LM])
    page = page_of(output)
    assert "<script>alert(1)</script>" in page.text
    assert "\"'></bdi></p><b>" in page.text
    assert "\\x1b[31m" in page.text
    assert page.all("bdi", "dir", "auto")
