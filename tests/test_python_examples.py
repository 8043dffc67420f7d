"""Examples in docs/python.md: each runs as written, in a folder with small checkpoints and media."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import skimage.data
from PIL import Image

from pipeline.reference.published_configs import FLOW, MASKED_LM, MULTIMODAL, SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from tests.example_runs import CLIP
from tests.sample_videos import make_video
from tests.test_docs import ROOT, code_blocks

PAGE = ROOT / "docs/python.md"
MODELS = {
    "sentiment": (SEQUENCE, {"max_position_embeddings": 128}),
    "language": (MASKED_LM, {"max_position_embeddings": 128}),
    "flow": (FLOW, {}),
    "clips": (MULTIMODAL, CLIP),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """The folder in which the examples run."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "models").mkdir()
    (folder / "models/photos").symlink_to(checkpoint)
    for name, (model_class, changes) in MODELS.items():
        make_checkpoint(model_class, small(model_class, **changes), folder / "models" / name)
    for name, image in {"photos/cat.jpg": skimage.data.cat(), "photos/page.png": skimage.data.page()}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / name)
    (folder / "photos/damaged.jpg").write_bytes((folder / "photos/cat.jpg").read_bytes()[:400])
    (folder / "frames").mkdir()
    for number in (1, 2):
        moved = skimage.data.astronaut()[3 * number : 3 * number + 14, :20]
        Image.fromarray(moved).save(folder / f"frames/000{number}.png")
    make_video(folder / "drive.mp4", seconds=0.8, size=(20, 14), audio_rate=48_000)
    return folder


@pytest.fixture
def run_section(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """`run_section(title)`: run the examples of a section one after the other and return their variables."""
    monkeypatch.chdir(folder)

    def run(title: str) -> dict[str, Any]:
        text = PAGE.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        blocks = [block for block in code_blocks(PAGE, "python") if block in text]
        assert blocks, title
        found: dict[str, Any] = {}
        for block in blocks:
            exec(block, found)
        return found

    return run


def test_readme(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    (block,) = code_blocks(ROOT / "README.md", "python")
    exec(block.replace("deepmind/vision-perceiver-fourier", "models/photos"), {})
    cat, damaged = capsys.readouterr().out.splitlines()
    assert "'label': " in cat
    assert "truncated JPEG" in damaged


def test_images(run_section) -> None:
    found = run_section("Images")
    cat, damaged = found["results"]
    assert damaged.error == "BadMedium"
    assert len(cat["topk"]) == 3
    for result in found["same"]:
        assert (result["label"], result["score"]) == (cat["label"], pytest.approx(cat["score"]))


def test_texts(run_section) -> None:
    found = run_section("Texts")
    assert len(found["labels"]) == 2
    assert found["filled"].startswith("Paris is the capital of ")


def test_frame_pairs(run_section) -> None:
    found = run_section("Frame pairs")
    assert found["motion"].shape == (14, 20, 2)
    assert found["result"]["frame_index"] == 18


def test_clips(run_section, folder: Path) -> None:
    assert len(run_section("Clips")["clips"]) == 2
    assert b"ftyp" in (folder / "clip.mp4").read_bytes()[:16]


def test_ray_data(run_section, cluster: None) -> None:
    rows = run_section("In a Ray Data pipeline")["rows"]
    assert {Path(row["path"]).name: row["error"] for row in rows} == {
        "cat.jpg": None,
        "page.png": None,
        "damaged.jpg": "BadMedium",
    }


def test_a_whole_run(run_section, folder: Path, described_cluster: None) -> None:
    found = run_section("A whole run")
    assert found["estimate"].plan.units == 3
    assert list(found["frame"]["id"]) == ["cat.jpg", "page.png"]
    assert [unit["id"] for unit in found["reasons"]] == ["damaged.jpg"]
