"""Image classification from an image to its row, with small random checkpoints, against transformers' pipeline."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from transformers import ImageClassificationPipeline
from transformers.models.perceiver import modeling_perceiver
from transformers.models.perceiver.image_processing_pil_perceiver import PerceiverImageProcessorPil

from pipeline.heads import HEADS, HeadOptions, head_for
from pipeline.heads.image_classification import ImageClassification
from pipeline.perceiver import CheckpointError, PerceiverIO
from pipeline.reference.published_configs import BARE, CONV, FOURIER, LEARNED, MASKED_LM, small
from pipeline.reference.random_checkpoints import make_checkpoint

NAMES = {0: "tabby", 1: "beagle", 2: "emu", 3: "rocket", 4: "espresso"}
PHOTOGRAPHS = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.rocket(), skimage.data.chelsea()[:, ::-1]]


def checkpoint(folder: Path, model_class: str) -> Path:
    return make_checkpoint(model_class, small(model_class, id2label=NAMES), folder)


def predicted(folder: Path, options: HeadOptions, dtype: torch.dtype = torch.float32) -> dict[str, list[object]]:
    """Return the columns of the photographs, as a replica computes them."""
    head = head_for("image-classification", folder, options)
    model = PerceiverIO.from_pretrained(str(folder), dtype=dtype)
    units = [head.transform(photograph) for photograph in PHOTOGRAPHS]
    with torch.inference_mode():
        inputs = head.collate({"image": [unit["image"] for unit in units]})
        rows = head.rows(head.decode(model, head.encode(model, inputs), inputs))
    return {name: list(column) for name, column in rows.items()}


@pytest.mark.parametrize("model_class", [LEARNED, FOURIER, CONV])
def test_rows_equal_those_of_transformers_pipeline(tmp_path: Path, model_class: str) -> None:
    folder = checkpoint(tmp_path, model_class)
    reference = ImageClassificationPipeline(
        model=getattr(modeling_perceiver, model_class).from_pretrained(folder),
        image_processor=PerceiverImageProcessorPil.from_pretrained(folder),
    )
    rows = predicted(folder, HeadOptions(top_k=3, logits=True))
    for at, photograph in enumerate(PHOTOGRAPHS):
        theirs = reference(Image.fromarray(photograph), top_k=3)
        ours = rows["topk"][at]
        assert [each["label"] for each in ours] == [each["label"] for each in theirs]
        np.testing.assert_allclose([each["score"] for each in ours], [each["score"] for each in theirs], atol=1e-5)
        assert (rows["label"][at], rows["score"][at]) == (ours[0]["label"], ours[0]["score"])
        assert NAMES[rows["label_id"][at]] == rows["label"][at]
        assert len(rows["logits"][at]) == len(NAMES)


def test_images_are_sent_as_bytes_of_the_models_size(tmp_path: Path) -> None:
    head = head_for("image-classification", checkpoint(tmp_path, FOURIER), HeadOptions())
    arrays = head.transform(PHOTOGRAPHS[0])
    assert list(arrays) == ["image"]
    assert (arrays["image"].dtype, arrays["image"].shape) == (np.uint8, (3, 20, 20))
    assert head.unit_bytes == arrays["image"].nbytes
    read_only = np.frombuffer(arrays["image"].tobytes(), np.uint8).reshape(3, 20, 20)  # as arrays from Arrow are
    assert head.collate({"image": [read_only, read_only]}).shape == (2, 3, 20, 20)


def test_bfloat16_model_gives_nearly_the_same_float32_scores(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, FOURIER)
    exact, rough = predicted(folder, HeadOptions()), predicted(folder, HeadOptions(), torch.bfloat16)
    assert {np.asarray(score).dtype for score in rough["score"]} == {np.dtype(np.float32)}
    np.testing.assert_allclose(rough["score"], exact["score"], atol=0.05)


def test_checkpoint_without_preprocessor_config_uses_the_defaults(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, LEARNED)
    (folder / "preprocessor_config.json").unlink()
    head = head_for("image-classification", folder, HeadOptions())
    assert head.transform(PHOTOGRAPHS[0])["image"].shape == (3, 224, 224)


@pytest.mark.parametrize("model_class", [MASKED_LM, BARE])
def test_checkpoint_of_another_class_is_rejected(tmp_path: Path, model_class: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [model_class]}))
    with pytest.raises(CheckpointError) as caught:
        head_for("image-classification", tmp_path, HeadOptions())
    for name in (str(tmp_path), model_class, "image-classification", LEARNED, FOURIER, CONV):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", {"architectures": []}, "architectures"),
        ("config.json", {"architectures": [LEARNED], "id2label": {}}, "config.json: id2label"),
        ("preprocessor_config.json", {"resample": "bicubic"}, "preprocessor_config.json: resample"),
        ("preprocessor_config.json", [1], "preprocessor_config.json"),
    ],
)
def test_invalid_file_is_rejected_with_its_name(tmp_path: Path, name: str, content: object, message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [LEARNED]}))
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        head_for("image-classification", tmp_path, HeadOptions())


def test_missing_config_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        head_for("image-classification", tmp_path, HeadOptions())


def test_unknown_task_is_rejected_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"task 'image-clasification' must be one of .*image-classification"):
        head_for("image-clasification", tmp_path, HeadOptions())


def test_fingerprint_changes_with_every_option_that_changes_a_row(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, LEARNED)

    def fingerprint_options(**options: object) -> object:
        found = head_for("image-classification", folder, HeadOptions(**options)).fingerprint_options
        assert json.loads(json.dumps(found)) == found
        return found

    assert fingerprint_options() == fingerprint_options(top_k=5)
    assert fingerprint_options() != fingerprint_options(top_k=4)
    assert fingerprint_options() != fingerprint_options(logits=True)
    before = fingerprint_options()
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 12, "crop_size": 12}))
    assert fingerprint_options() != before


def test_pickled_head_is_small(tmp_path: Path) -> None:
    head = head_for("image-classification", checkpoint(tmp_path, LEARNED), HeadOptions())
    assert pickle.loads(pickle.dumps(head)) == head
    assert len(pickle.dumps(head)) < 10_000
    assert HEADS["image-classification"] is ImageClassification


_LOAD_TASK = """
import pickle, sys
import numpy as np
head = pickle.loads(bytes.fromhex(sys.argv[1]))
head.transform(np.zeros((9, 9, 3), np.uint8))
print(sorted({"torch", "transformers", "ray", "pyarrow"} & set(sys.modules)))
"""


def test_load_task_does_not_import_torch(tmp_path: Path) -> None:
    head = head_for("image-classification", checkpoint(tmp_path, LEARNED), HeadOptions())
    command = [sys.executable, "-c", _LOAD_TASK, pickle.dumps(head).hex()]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
