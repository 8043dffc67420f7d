"""Attention masks: padding, any pattern, and a row that attends to nothing."""

import pytest
import torch

from pipeline.reference.published_configs import MASKED_LM, MODEL_CLASSES, SEQUENCE
from pipeline.reference.sample_inputs import sample_inputs, sample_mask


def encoder_inputs(both, inputs):
    """Return the number of inputs M of [B, M, C]."""
    model = both.theirs
    preprocessor = getattr(model, "perceiver", model).input_preprocessor
    return inputs.shape[1] if preprocessor is None else preprocessor(inputs)[0].shape[1]


def mask_of(kind, batch, places):
    if kind == "padding":
        return (torch.arange(places) < torch.tensor([[places], [places // 2], [1]])).long()[:batch]
    mask = torch.randint(0, 2, (batch, places), generator=torch.Generator().manual_seed(3))
    if kind == "one row all masked":
        mask[1] = 0
    return mask


@pytest.mark.parametrize("kind", ["padding", "random", "one row all masked"])
@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_masked_inputs_equal_transformers(pair, model_class, kind):
    both = pair(model_class)
    inputs = sample_inputs(both.config, model_class, batch=3)
    mask = mask_of(kind, 3, encoder_inputs(both, inputs))
    both.assert_equal(inputs, mask)
    both.assert_equal(inputs)  # and nothing of the mask stays


@pytest.mark.parametrize("changes", [{"num_cross_attention_heads": 4}, {"use_query_residual": False}])
def test_masks_with_heads_and_without_residual(pair, changes):
    both = pair(MASKED_LM, **changes)
    inputs = sample_inputs(both.config, MASKED_LM, batch=3, padded=True)
    both.assert_equal(inputs, sample_mask(inputs))


@pytest.mark.parametrize("model_class", [MASKED_LM, SEQUENCE])
def test_padding_to_the_longest_text_is_enough(pair, close, model_class):
    both = pair(model_class)
    inputs = sample_inputs(both.config, model_class, batch=2, padded=True)
    mask = sample_mask(inputs)
    longest = 30
    inputs[:, longest:], mask[:, longest:] = 0, 0
    whole = both.ours.encode(inputs, mask)
    close(both.ours.encode(inputs[:, :longest], mask[:, :longest]), whole)


def test_boolean_and_integer_masks_are_the_same(pair, close):
    both = pair(MASKED_LM)
    inputs = sample_inputs(both.config, MASKED_LM, batch=2, padded=True)
    mask = sample_mask(inputs)
    close(both.ours.encode(inputs, mask.bool()), both.ours.encode(inputs, mask))
