"""Sample inputs resemble real ones, and random checkpoints have the format of published ones."""

import json

import pytest
import torch
from torch import nn
from transformers.models.perceiver.image_processing_pil_perceiver import PerceiverImageProcessorPil

from pipeline.reference.published_configs import (
    CONV,
    FLOW,
    FOURIER,
    MASKED_LM,
    MODEL_CLASSES,
    MULTIMODAL,
    SEQUENCE,
    SHAPES,
    small,
)
from pipeline.reference.random_checkpoints import build_model, make_checkpoint
from pipeline.reference.sample_inputs import CLS, MASK, SEP, masked_positions, sample_inputs, sample_mask


@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_seed_determines_the_units(model_class):
    first, again, other = (sample_inputs(small(model_class), model_class, 2, seed) for seed in (0, 0, 1))
    if not isinstance(first, dict):
        first, again, other = {"x": first}, {"x": again}, {"x": other}
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_text_has_special_tokens_and_padding():
    ids = sample_inputs(small(SEQUENCE), SEQUENCE, batch=3, padded=True)
    lengths = sample_mask(ids).sum(dim=1)
    assert lengths[0] == ids.shape[1] > lengths[1] > lengths[2]
    assert (ids[:, 0] == CLS).all()
    assert (ids[torch.arange(3), lengths - 1] == SEP).all()
    assert sample_mask(sample_inputs(small(SEQUENCE), SEQUENCE, batch=3)) is None


def test_fifteen_percent_of_a_full_text_are_masked():
    config = SHAPES["language-perceiver"].config()
    ids = sample_inputs(config, MASKED_LM, batch=4)
    assert ids.shape == (4, 2048)
    assert masked_positions(ids).shape == (4, 307)
    ids[1, 5] = MASK if ids[1, 5] != MASK else CLS
    with pytest.raises(ValueError, match=r"308|306"):
        masked_positions(ids)


def test_second_frame_is_the_first_one_moved():
    patches = sample_inputs(small(FLOW), FLOW)
    centre = patches[0, :, 12:15]  # kernel row 1, kernel column 1, three colors
    assert torch.equal(centre[0, :, :-2, :-3], centre[1, :, 2:, 3:])
    assert patches.abs().max() <= 1
    left = patches[0, 0, 9:12]  # kernel row 1, kernel column 0: the pixel to the left, none at the edge
    assert torch.equal(left[:, :, 1:], centre[0, :, :, :-1])
    assert (left[:, :, 0] == 0).all()


def test_clip_values_are_in_range():
    clip = sample_inputs(small(MULTIMODAL), MULTIMODAL, batch=2)
    assert {name: tuple(x.shape) for name, x in clip.items()} == {
        "audio": (2, 64, 1),
        "image": (2, 2, 3, 16, 16),
        "label": (2, 5),
    }
    assert 0 <= clip["image"].min() < clip["image"].max() <= 1
    assert clip["audio"].abs().max() <= 1
    assert not clip["label"].any()


def test_every_norm_bias_and_statistic_has_an_effect():
    model = build_model(CONV, small(CONV), seed=0)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            assert not (module.weight == 1).any()
            assert not (module.bias == 0).any()
        if isinstance(module, nn.BatchNorm2d):
            assert not (module.running_mean == 0).any()
            assert (module.running_var > 0).all()


def test_checkpoint_has_the_published_image_processor(tmp_path):
    published = SHAPES["vision-perceiver-fourier"].config()
    config = small(FOURIER, image_size=published.image_size)
    folder = make_checkpoint(FOURIER, config, tmp_path / "ours")
    PerceiverImageProcessorPil().save_pretrained(tmp_path / "theirs")
    ours, theirs = (json.loads((tmp_path / who / "preprocessor_config.json").read_text()) for who in ("ours", "theirs"))
    assert ours == theirs
    assert json.loads((folder / "config.json").read_text())["architectures"] == [FOURIER]
