"""Inputs of another size than the model was trained with: interpolated positions, or positions of the new grid."""

import pytest
import torch

from pipeline.reference.published_configs import BARE, CONV, FOURIER, LEARNED, MULTIMODAL
from pipeline.reference.sample_inputs import sample_inputs

SIZES = [(20, 20), (8, 8), (12, 12), (9, 16), (21, 5), (12, 24)]  # of a model trained at 12 × 12


def images(height, width, seed=0):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("image_size", [12, 7])
def test_learned_positions_are_interpolated(pair, image_size):
    both = pair(LEARNED, image_size=image_size)
    for size in SIZES:  # one model reads them all, in turn
        both.assert_equal(images(*size))


@pytest.mark.parametrize("model_class", [FOURIER, CONV])
def test_computed_positions_fit_any_image(pair, model_class):
    both = pair(model_class)
    for size in [(36, 36), (50, 50), (31, 64), (64, 31), (15, 15)]:
        both.assert_equal(images(*size))


def test_clip_larger_than_its_decoded_grid(pair):
    both = pair(MULTIMODAL)
    clip = sample_inputs(both.config, MULTIMODAL, batch=2)
    for size in [(16, 16), (24, 8), (8, 20)]:
        image = torch.rand(2, 2, 3, *size, generator=torch.Generator().manual_seed(1))
        both.assert_equal({**clip, "image": image})


def test_clip_longer_than_its_decoded_grid(pair):
    both = pair(MULTIMODAL)
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, 5, 3, 16, 16, generator=generator)
    audio = torch.rand(2, 120, 1, generator=generator)
    both.assert_equal({"image": image, "audio": audio, "label": torch.zeros(2, both.config.num_labels)})


def test_bare_inputs_of_any_number(pair):
    both = pair(BARE)
    for places in (1, 50, 7):
        generator = torch.Generator().manual_seed(places)
        both.assert_equal(torch.randn(2, places, both.config.d_model, generator=generator))
