"""Frames and samples of a clip as the model takes them."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.reference.published_configs import MULTIMODAL, SHAPES
from tests.heads.clip_heads import (
    PHOTOGRAPHS,
    clips,
    head_of,
)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((64, 64), (0, 0, 64, 64)),
        ((90, 60), (15, 0, 75, 60)),  # a square with the shorter side
        ((33, 70), (0, 18, 33, 51)),
        ((5, 5), (0, 0, 5, 5)),
        ((1, 1), (0, 0, 1, 1)),
        ((16, 16), (0, 0, 16, 16)),
    ],
)
def test_frame_is_cropped_to_its_centre_and_resized_by_pillow(
    clip_models: dict[str, Path], size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    image = Image.fromarray(PHOTOGRAPHS[0]).resize(size)
    expected = np.asarray(image.crop(box).resize((16, 16), Image.Resampling.BILINEAR))
    reduce = head_of(clip_models["tiny"]).clip_spec.reduce
    frame = np.asarray(image)
    np.testing.assert_array_equal(reduce(frame), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reduce))(frame), expected)
    assert reduce(frame).flags.writeable


@pytest.mark.parametrize(("size", "box"), [((60, 60), (0, 12, 60, 48)), ((200, 60), (50, 0, 150, 60))])
def test_frame_is_cropped_to_the_aspect_ratio_of_the_output(
    clip_models: dict[str, Path], size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    image = Image.fromarray(PHOTOGRAPHS[0]).resize(size)
    expected = np.asarray(image.crop(box).resize((20, 12), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(head_of(clip_models["wide"]).clip_spec.reduce(np.asarray(image)), expected)


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (1, 1)])
def test_frame_of_any_size_is_reduced_to_the_models_size(clip_models: dict[str, Path], size: tuple[int, int]) -> None:
    assert head_of(clip_models["wide"]).clip_spec.reduce(np.zeros((*size, 3), np.uint8)).shape == (12, 20, 3)


def test_default_clip_is_that_of_the_published_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [MULTIMODAL]}))
    spec = head_of(tmp_path).clip_spec
    assert spec is not None
    published = SHAPES["multimodal-perceiver"].config()
    assert spec.reduce(np.zeros((300, 500, 3), np.uint8)).shape == (*published.output_shape[2:], 3)
    assert (spec.frames, spec.fps, spec.samples, spec.sample_rate) == (16, 25.0, 30_720, 48_000)
    assert published.num_frames * published.audio_samples_per_frame == 30_720


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "frames",
            np.zeros((3, 16, 16, 3), np.uint8),
            r"frames \(uint8 \[3, 16, 16, 3\]\) must be uint8 \[2, 16, 16, 3\]",
        ),
        ("frames", np.zeros((2, 16, 16, 3), np.float32), r"frames \(float32"),
        ("samples", np.zeros(63, np.float32), r"samples \(float32 \[63\]\) must be float32 \[64\]"),
        ("samples", np.zeros(64, np.int16), r"samples \(int16"),
    ],
)
def test_clip_of_another_shape_is_rejected(
    clip_models: dict[str, Path], name: str, value: np.ndarray, message: str
) -> None:
    head = head_of(clip_models["tiny"])
    with pytest.raises(ValueError, match=message):
        head.transform(replace(clips(head, 1)[0], **{name: value}))


_LOAD_TASK = """
import pickle, sys
import numpy as np
head = pickle.loads(bytes.fromhex(sys.argv[1]))
from pipeline.media import Clip
clip = head.clip_spec
frames = np.stack([clip.reduce(np.zeros((9, 30, 3), np.uint8))] * clip.frames)
samples = np.zeros(clip.samples, np.float32)
times = {"clip_index": 0, "start_seconds": 0.0, "end_seconds": 0.64, "has_audio": False, "padded_frames": 0}
head.transform(Clip(frames=frames, samples=samples, **times))
print(sorted({"torch", "transformers", "ray", "pyarrow", "av"} & set(sys.modules)))
"""


def test_load_task_does_not_import_torch(clip_models: dict[str, Path]) -> None:
    command = [sys.executable, "-c", _LOAD_TASK, pickle.dumps(head_of(clip_models["long"])).hex()]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
