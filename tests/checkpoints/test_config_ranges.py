"""Numbers of a config.json are checked before anything is built of them."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path

import pytest

from pipeline.checkpoints import CheckpointError, read_config
from pipeline.checkpoints.config_ranges import check_ranges
from pipeline.reference.published_configs import MULTIMODAL, SHAPES


@pytest.mark.parametrize("name", SHAPES)
def test_published_configurations_are_in_range(name: str) -> None:
    shape = SHAPES[name]
    check_ranges({**shape.config().to_dict(), "architectures": [shape.model_class]})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"num_labels": 10**9}, r"num_labels \(1000000000\) must be at least 1 and at most 200,000"),
        ({"id2label": {str(number): "a" for number in range(200_001)}}, "id2label has 200,001 labels, at most 200,000"),
        ({"train_size": [368, -496]}, r"train_size \(\[368, -496\]\) must be at least 1"),
        ({"output_shape": [1, 16, 9000, 9000]}, "output_shape has 1,296,000,000 pixels or samples, at most 67,108,864"),
        ({"image_size": 100_000}, "image_size by image_size has 10,000,000,000 pixels"),
        ({"architectures": [MULTIMODAL], "image_size": 4000}, "num_frames by image_size by image_size has 256,000,000"),
        (
            {"architectures": [MULTIMODAL], "audio_samples_per_frame": 10**8},
            "num_frames by audio_samples_per_frame has 1,600,000,000",
        ),
    ],
)
def test_absurd_numbers_are_refused_with_their_range(config: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_ranges(config)


@pytest.mark.parametrize(
    "config", [{"image_size": 4000}, {"qk_channels": None}, {"train_size": []}, {"num_blocks": "8"}]
)
def test_others_are_left_to_what_builds_the_model(config: dict[str, object]) -> None:
    check_ranges(config)


def test_a_billion_labels_cost_neither_time_nor_memory(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"num_labels": 10**9, "num_self_attends_per_block": 10**9}))
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(CheckpointError, match=r"config\.json: num_"):
        read_config(tmp_path)
    assert time.monotonic() - began < 10, "most of it is the import of transformers"
    assert tracemalloc.get_traced_memory()[1] < 1 << 28
    tracemalloc.stop()
