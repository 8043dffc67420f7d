"""Image preprocessing against transformers' PIL backend: equal bytes after resizing, equal floats at the end."""

from __future__ import annotations

import json
import pickle
import random
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from sklearn.datasets import load_sample_images
from transformers.models.perceiver.image_processing_pil_perceiver import PerceiverImageProcessorPil

from pipeline.heads.image_config import read_transform
from pipeline.heads.image_transform import center_crop

ON_THE_HUB = {  # of deepmind/vision-perceiver-{learned,fourier,conv}
    "crop_size": 256,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "PerceiverFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": 224,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "no file": {},
    "hub": ON_THE_HUB,
    "new style": {
        "image_processor_type": "PerceiverImageProcessor",
        "size": {"height": 224, "width": 224},
        "crop_size": {"height": 256, "width": 256},
        "rescale_factor": 0.00392156862745098,
    },
    "tiny": {"size": 32, "crop_size": 32},
    "oblong": {"size": [100, 160], "crop_size": [90, 200]},
    "crop beyond the image": {"size": 300, "crop_size": 200},
    "crop beyond, kept": {"size": 300, "crop_size": 200, "do_resize": False},
    "no crop": {"do_center_crop": False},
    "no resize": {"do_resize": False},
    "neither": {"do_resize": False, "do_center_crop": False, "size": None, "crop_size": None},
    "no rescale": {"do_rescale": False},
    "no normalise": {"do_normalize": False, "image_mean": None},
    "bytes": {"do_rescale": False, "do_normalize": False},
    "null is off": {"do_center_crop": None, "do_rescale": None},
    "other numbers": {"image_mean": 0.5, "image_std": [0.1, 1, 2.5], "rescale_factor": 1 / 127.5},
    "shortest edge": {"do_center_crop": False, "size": {"shortest_edge": 50}},
    "edges": {"do_center_crop": False, "size": {"shortest_edge": 50, "longest_edge": 70}},
    "fitted": {"do_center_crop": False, "size": {"max_height": 50, "max_width": 70}},
    "old shortest edge": {"do_center_crop": False, "size": 64, "default_to_square": False},
    **{f"filter {number}": {"resample": number} for number in range(6)},
}


def theirs(config: dict[str, Any], image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the resized uint8 image and the final values [3, H, W] of transformers."""

    def process(**changes: Any) -> np.ndarray:
        processor = PerceiverImageProcessorPil(**{**config, **changes})
        return processor(image, input_data_format="channels_last", return_tensors="np")["pixel_values"][0]

    return process(do_rescale=False, do_normalize=False), process()


def assert_equal_to_theirs(config: dict[str, Any], image: np.ndarray) -> None:
    transform = read_transform(config)
    try:
        resized, final = theirs(config, image)
    except ValueError as error:  # a side of no pixels, which Pillow resizes nothing to
        with pytest.raises(ValueError, match=str(error)):
            transform.apply(image)
        return
    if resized.size == 0:  # a crop of an image one pixel high, and no resize: transformers returns an empty array
        with pytest.raises(ValueError, match="the centre crop of the image is empty"):
            transform.apply(image)
        return
    pixels = transform.apply(image)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, resized)
    values = transform.normalise(torch.from_numpy(pixels)[None], torch.float32)[0]
    np.testing.assert_array_equal(values.numpy(), final)  # to the bit, which is within any tolerance


def sizes() -> list[tuple[int, int]]:
    rng = random.Random(0)
    fixed = [(1, 1), (1, 500), (500, 1), (2, 2), (3, 1000), (37, 41), (256, 256), (224, 224), (50, 50), (50, 70)]
    return fixed + [(rng.randint(1, 300), rng.randint(1, 300)) for _ in range(12)]


@pytest.mark.parametrize("name", CONFIGS)
def test_random_images_equal_those_of_transformers(name: str) -> None:
    rng = np.random.default_rng(0)
    for height, width in sizes():
        assert_equal_to_theirs(CONFIGS[name], rng.integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("name", ["hub", "crop beyond the image", "oblong"])
def test_photographs_equal_those_of_transformers(name: str) -> None:
    photographs = [*load_sample_images().images, skimage.data.astronaut(), skimage.data.coffee(), skimage.data.rocket()]
    for photograph in photographs:
        assert_equal_to_theirs(CONFIGS[name], photograph)
        assert_equal_to_theirs(CONFIGS[name], photograph.transpose(1, 0, 2)[::-1])  # upright, by a view


def test_batch_is_normalised_as_single_images_and_cast_last() -> None:
    transform = read_transform(ON_THE_HUB)
    pixels = torch.randint(0, 256, (5, 3, 8, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([transform.normalise(image[None], torch.float32) for image in pixels])
    assert torch.equal(transform.normalise(pixels, torch.float32), alone)
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(transform.normalise(pixels, dtype), alone.to(dtype))


def test_crop_larger_than_the_image_is_padded_with_zeros() -> None:
    image = np.ones((1, 2, 3), np.uint8)
    assert center_crop(image, 4, 3)[..., 0].tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": {"shortest_edge": 224}}, "must have height and width if do_center_crop is true"),
        ({"crop_size": {"shortest_edge": 224}}, "crop_size .* must have height and width"),
        (
            {"size": {"longest_edge": 9}, "do_center_crop": False},
            "height and width; max_height and max_width",
        ),
        ({"size": None}, r"size \(None\) must be a number of pixels"),
        ({"size": 0}, r"size \(\{'height': 0"),
        ({"crop_size": {"height": 0, "width": 2}}, "crop_size"),
        ({"resample": 9}, r"resample \(9\) must be one of Pillow's filters, 0 to 5"),
        ({"resample": None}, r"resample \(None\)"),
        ({"image_mean": [0.5, 0.5]}, "image_mean .* must have 3 numbers"),
        ({"image_mean": None}, r"image_mean \(None\) must be a number"),
        ({"image_std": [1, 0, 1]}, "must not contain 0"),
        ({"rescale_factor": "1/255"}, r"rescale_factor \('1/255'\) must be a number"),
    ],
)
def test_invalid_config_is_rejected_with_its_key(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_transform(config)


def test_fingerprint_survives_json_and_differs_between_transforms() -> None:
    options = [read_transform(config).fingerprint_options for config in CONFIGS.values()]
    assert [json.loads(json.dumps(option)) for option in options] == options
    assert read_transform(CONFIGS["no file"]).fingerprint_options == read_transform(ON_THE_HUB).fingerprint_options
    assert read_transform(CONFIGS["tiny"]).fingerprint_options != read_transform(ON_THE_HUB).fingerprint_options


def test_transform_is_picklable_and_estimates_its_bytes() -> None:
    transform = read_transform(ON_THE_HUB)
    assert pickle.loads(pickle.dumps(transform)) == transform
    assert transform.unit_bytes == 3 * 224 * 224
    assert read_transform(CONFIGS["shortest edge"]).unit_bytes == 3 * 50 * 50
    assert read_transform(CONFIGS["no resize"]).unit_bytes > 1e6
