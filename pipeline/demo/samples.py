"""Inputs of `perceiver demo`, none of which a shipped checkpoint was trained on, and what is right for most of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.demo import digits, photographs
from pipeline.demo.photographs import shifted_frames
from pipeline.reference.sample_media import FPS, write_video

TEXTS = (
    ("English", "Bring the water to a boil, add the rice, and let it simmer for twelve minutes with the lid on."),
    (
        "Python",
        "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n"
        "    return total / len(values)",
    ),
    (
        "C",
        "#define MAX_POINTS 16\nstruct point { double x; double y; };\n"
        "double distance(const struct point *a, const struct point *b);",
    ),
    ("Python session", ">>> prices = [3, 4, 5]\n>>> sum(prices) / len(prices)\n4.0\n>>> max(prices)\n5"),
)
"""Kinds and texts, written for the demo."""

SENTENCES = (
    ("i", "Th[MASK]s function returns the number of items in the list."),
    ("e", "If the file does not exist, an exception is rais[MASK]d."),
    (" ", "The value of this argument must be a[MASK]string or an integer."),
    ("t", "Return true if [MASK]he two objects have the same name."),
)
"""Masked bytes, and sentences that Python's documentation does not contain."""

SHIFT = (3.0, -2.0)
"""Pixels (x, y) by which the content of the flow video moves per frame."""

FLOW_SIZE = (96, 120)
_DIGITS = 10


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One run of the demo: a task, its folder of samples, what is asked, what is right by id, other options."""

    task: str
    folder: str
    question: str
    answers: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)


def write_samples(folder: Path) -> list[Sample]:
    """Write the samples of all tasks. ImportError without scikit-image or scikit-learn."""
    for name in ("digits", "texts", "masked", "flow", "clips"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _write_clip(folder / "clips")
    images: Mapping[str, Any] = {
        "folder": "digits",
        "answers": _write_digits(folder / "digits"),
        "options": {"max_quarantine": 0.2},  # one image is damaged
    }
    return [
        Sample(task="image-classification", question="Which digit does the image show?", **images),
        Sample(
            task="text-classification",
            folder="texts",
            question="What kind of text is it?",
            answers=_write_texts(folder / "texts", TEXTS),
            options={"id_column": "name", "keep_columns": ("text",)},
        ),
        Sample(
            task="fill-mask",
            folder="masked",
            question="Which byte is masked?",
            answers=_write_texts(folder / "masked", SENTENCES),
            options={"id_column": "name"},
        ),
        Sample(
            task="optical-flow",
            folder="flow",
            question="How far does the content move, in pixels per frame?",
            answers=_write_moving_photograph(folder / "flow"),
        ),
        Sample(
            task="multimodal-autoencoding",
            folder="clips",
            question="How well is a clip with sound rebuilt from its latents?",
            answers={},
        ),
        Sample(task="feature-extraction", question="Which other image is most like it?", **images),
    ]


def _write_digits(folder: Path) -> dict[str, str]:
    """Write the first two held-out images of each digit, and a damaged file."""
    _, held_out = digits.load_digits()
    answers = {}
    for digit in range(_DIGITS):
        for copy, index in enumerate(np.flatnonzero(held_out.labels == digit)[:2]):
            name = f"digit-{digit}-{'ab'[copy]}.png"
            digits.enlarge(held_out.images[index], 64).save(folder / name)
            answers[name] = str(digit)
    (folder / "damaged.png").write_bytes((folder / "digit-0-a.png").read_bytes()[:300])
    return answers


def _write_texts(folder: Path, texts: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Write texts as JSON Lines with ids."""
    names = [f"text-{number}" for number in range(len(texts))]
    lines = [json.dumps({"name": name, "text": text}) for name, (_, text) in zip(names, texts, strict=True)]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    return {name: answer for name, (answer, _) in zip(names, texts, strict=True)}


def _write_moving_photograph(folder: Path) -> dict[str, str]:
    """Write four frames of a cat that moves by `SHIFT` per frame."""
    image = photographs.photograph("chelsea.png")
    frames = shifted_frames(image, FLOW_SIZE, np.array(SHIFT), np.array([0.5, 0.3]), 4)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"cat-{number}.png")
    x, y = SHIFT
    return {f"cat-{number}.png": f"{x:+.2f}, {y:+.2f}" for number in range(len(frames) - 1)}


def _write_clip(folder: Path) -> None:
    """Write 0.96 seconds, six clips of four frames, of a cup of coffee that moves to the left, with a chord."""
    frames = shifted_frames(
        photographs.photograph("coffee.png"), (96, 96), np.array([-3.0, 0.0]), np.array([0.4, 0.5]), round(0.96 * FPS)
    )
    write_video(folder / "coffee.mp4", frames, size=(96, 96), audio_seconds=0.96)
