"""Examples in docs/checkpoints.md: each trains and saves as written, then is verified and used."""

from __future__ import annotations

import random
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from transformers import PerceiverConfig, PerceiverForMaskedLM
from transformers.models.perceiver import modeling_perceiver

from pipeline import Predictor
from pipeline.checkpoints.shipped import shipped_folder
from pipeline.heads.flow_inputs import FlowInputs
from pipeline.reference.parity import verify
from pipeline.reference.published_configs import CONV, FLOW, FOURIER, LEARNED, MULTIMODAL, small
from pipeline.reference.random_checkpoints import make_checkpoint
from tests.sample_videos import make_video
from tests.test_docs import ROOT, code_blocks

PAGE = ROOT / "docs/checkpoints.md"
CHANNELS = {
    LEARNED: "512",
    FOURIER: "261",
    CONV: "322",
    FLOW: "322",
    MULTIMODAL: f"{389 + PerceiverConfig().samples_per_patch}",
}


def section(title: str) -> str:
    """Return the text of a section up to the next title of any level."""
    return PAGE.read_text().partition(f"# {title}\n")[2].partition("\n##")[0]


def run_examples(title: str, variables: dict[str, Any]) -> None:
    """Run the examples of a section one after the other."""
    for block in (block for block in code_blocks(PAGE, "python") if block in section(title)):
        exec(block, variables)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the examples run; small checkpoints have the names of the published ones."""
    folder = tmp_path_factory.mktemp("examples")
    published = folder / "deepmind"
    published.mkdir()
    (published / "vision-perceiver-fourier").symlink_to(shipped_folder("demo:fourier"))
    language = published / "language-perceiver"
    shutil.copytree(shipped_folder("demo:fill-mask"), language)
    PerceiverForMaskedLM.from_pretrained(language, dtype=torch.float32).save_pretrained(language)
    make_checkpoint(FLOW, small(FLOW), published / "optical-flow-perceiver")
    for label, image in {"cat": skimage.data.cat(), "page": skimage.data.page()}.items():
        (folder / "training" / label).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(image[20 * number :][:150, :150]).save(folder / f"training/{label}/{number}.png")
    Image.fromarray(skimage.data.astronaut()[64:128, 180:244]).save(folder / "photo.png")
    clips = skimage.data.astronaut()[:64, :32].reshape(2, 4, 16, 16, 3)
    samples = np.sin(np.arange(2 * 4 * 320, dtype=np.float32) / 9).reshape(2, -1)
    np.savez(folder / "clips.npz", frames=clips, samples=samples, labels=np.array([0, 1]))
    return folder


@pytest.fixture
def train(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """`train(title)`: run the examples of a section after the training loop, and return their variables."""
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    random.seed(0)

    def run(title: str) -> dict[str, Any]:
        variables: dict[str, Any] = {}
        for each in ("Train", title):
            run_examples(each, variables)
        return variables

    return run


def check_verified(checkpoint: str) -> None:
    """Do what the page's `perceiver verify` of a checkpoint does, and check the differences."""
    lines = [line for line in section("Check and use").splitlines() if line.startswith("perceiver verify")]
    (task,) = (shlex.split(line)[2] for line in lines if line.endswith(f"--checkpoint {checkpoint}"))
    rows = verify(task, checkpoint)
    assert max(row.relative for row in rows if row.dtype == "float32") < 1e-4
    assert max(row.relative for row in rows) < 0.1  # the range is small after so little training


def test_images(train) -> None:
    found = train("Images")
    check_verified("models/photos")
    run_examples("Check and use", found)
    assert (found["right"], found["changed"]) == (6, 0)


def test_texts(train) -> None:
    rated = train("Texts")["rated"]
    check_verified("models/sentiment")
    check_verified("models/language")
    results = Predictor("text-classification", checkpoint="models/sentiment")(list(rated))
    assert [result["label"] for result in results] == list(rated.values())
    (filled,) = Predictor("fill-mask", checkpoint="models/language")(["I loved[MASK]it."])
    assert re.fullmatch("I loved.it.", filled["filled"])


def test_optical_flow(train) -> None:
    found = train("Optical flow")
    check_verified("models/flow")
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), np.uint8)
    pair = torch.from_numpy(frames)[None]
    patches = FlowInputs(tile=(16, 24)).patches(pair, np.array([0]), torch.float32)
    torch.testing.assert_close(found["patches_of"](pair), patches)
    predictor = Predictor("optical-flow", checkpoint="models/flow", flow_scale=4, array_dtype="float32")
    (result,) = predictor([tuple(frames)])
    with torch.inference_mode():
        expected = found["SCALE"] * found["model"](inputs=patches).logits[0]
    np.testing.assert_allclose(result["flow"], expected, atol=1e-4)


def test_clips(train, folder: Path) -> None:
    found = train("Clips")
    check_verified("models/clips")
    make_video(folder / "video.mp4", seconds=0.32, size=(24, 16), audio_rate=48_000)
    (clips,) = Predictor("multimodal-autoencoding", checkpoint="models/clips")(["video.mp4"])
    assert len(clips) == 2
    assert {clip["label"] for clip in clips} <= {"still", "moving"}
    assert found["model"].config.num_labels == 2


@pytest.mark.parametrize("model_class", CHANNELS)
def test_sizes_are_those_of_transformers(model_class: str) -> None:
    name = model_class.split("For")[-1].removeprefix("ImageClassification")
    (row,) = (line for line in section("Sizes").splitlines() if line.startswith(f"| `…{name}`"))
    with torch.device("meta"):
        model = getattr(modeling_perceiver, model_class)(PerceiverConfig(num_cross_attention_heads=1))
        assert str(model.perceiver.input_preprocessor.num_channels) == CHANNELS[model_class]
        if "`num_cross_attention_heads` 1" in row:
            with pytest.raises(ValueError, match="must be divisible"):
                getattr(modeling_perceiver, model_class)(PerceiverConfig())
    assert CHANNELS[model_class] in row.replace("389 + `samples_per_patch`", CHANNELS[MULTIMODAL])


def test_messages_are_quoted_as_they_are() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "pipeline").rglob("*.py"))
    rows = [row.split("|")[1] for row in section("What is refused").splitlines() if row.startswith("| `")]
    quoted = re.findall("`([^`]+)`", "".join(rows))
    assert len(quoted) > len(rows)
    assert [text for text in quoted if text not in sources] == []
