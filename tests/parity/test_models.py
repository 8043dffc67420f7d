"""The engine equals transformers: all eight classes, and every field of the configuration that inference reads."""

import dataclasses

import pytest
from transformers import PerceiverConfig, PreTrainedConfig
from transformers.activations import ACT2FN

from pipeline.reference.published_configs import (
    BARE,
    CONV,
    FLOW,
    FOURIER,
    LEARNED,
    MASKED_LM,
    MODEL_CLASSES,
    MULTIMODAL,
    SEQUENCE,
    TASKS,
    small,
)
from pipeline.reference.sample_inputs import sample_inputs

# Fields that the encoder reads: for every class, combined with its own row of the same index below.
ENCODER = [
    {},
    {"num_latents": 5, "num_blocks": 3, "num_self_attends_per_block": 1, "hidden_act": "relu"},
    {
        "d_latents": 48,
        "num_self_attention_heads": 6,
        "num_cross_attention_heads": 3,
        "cross_attention_shape_for_attention": "q",
        "hidden_act": "gelu_new",
    },
    {
        "qk_channels": 24,
        "v_channels": 32,
        "num_self_attention_heads": 8,
        "num_cross_attention_heads": 4,
        "use_query_residual": False,
        "hidden_act": "silu",
    },
    {
        "qk_channels": 32,
        "num_self_attends_per_block": 3,
        "self_attention_widening_factor": 3,
        "cross_attention_widening_factor": 2,
        "hidden_act": "gelu_pytorch_tanh",
    },
    # Without self-attention alone may the values be of another width than the latents.
    {"num_self_attends_per_block": 0, "qk_channels": 8, "v_channels": 12, "num_cross_attention_heads": 4},
]

OWN = {
    BARE: [{}, {"d_model": 33}, {"d_model": 10}, {"d_model": 7}, {"d_model": 64}, {}],
    MASKED_LM: [
        {},
        {"d_model": 8, "vocab_size": 100},
        {"d_model": 40, "max_position_embeddings": 17},
        {"vocab_size": 300},
        {"d_model": 64, "max_position_embeddings": 64},
        {},
    ],
    SEQUENCE: [
        {},
        {"d_model": 7, "vocab_size": 100},
        {"d_model": 33, "max_position_embeddings": 17},
        {"vocab_size": 300, "num_labels": 1},
        {"d_model": 64, "max_position_embeddings": 64, "num_labels": 12},
        {},
    ],
    LEARNED: [{}, {"image_size": 7}, {"num_labels": 1}, {"image_size": 16}, {"num_labels": 12}, {}],
    FOURIER: [{}, {"image_size": 7}, {"num_labels": 1}, {"image_size": 16}, {"num_labels": 12}, {}],
    CONV: [{}, {"image_size": 29}, {"num_labels": 1}, {"image_size": 40}, {"num_labels": 12}, {}],
    FLOW: [
        {},
        {"train_size": [24, 16]},
        {"train_size": [9, 31]},
        {"train_size": [12, 12]},
        {"train_size": [5, 7]},
        {},
    ],
    MULTIMODAL: [
        {},
        {"num_frames": 3, "output_shape": [1, 3, 8, 12], "image_size": 8, "num_labels": 1},
        {"samples_per_patch": 16, "_label_trainable_num_channels": 420, "output_num_channels": 7},
        {"audio_samples_per_frame": 48, "image_size": 6, "num_labels": 450},
        # More frames out than in, and a first number that means nothing.
        {"num_frames": 2, "output_shape": [4, 5, 12, 8], "_label_trainable_num_channels": 1, "output_num_channels": 33},
        {"samples_per_patch": 4},
    ],
}

CASES = [
    pytest.param(name, {**common, **own}, id=f"{name}-{number}")
    for name in MODEL_CLASSES
    for number, (common, own) in enumerate(zip(ENCODER, OWN[name], strict=True))
]

TEXT_FIELDS = {"d_model", "vocab_size", "max_position_embeddings"}
READ_BY = {
    BARE: {"d_model"},
    MASKED_LM: TEXT_FIELDS,
    SEQUENCE: {*TEXT_FIELDS, "num_labels"},
    LEARNED: {"image_size", "num_labels"},
    FOURIER: {"num_labels"},
    CONV: {"num_labels"},
    FLOW: {"train_size"},
    MULTIMODAL: {
        "num_frames",
        "audio_samples_per_frame",
        "samples_per_patch",
        "image_size",
        "output_shape",
        "output_num_channels",
        "_label_trainable_num_channels",
        "num_labels",
    },
}
ENCODER_FIELDS = set().union(*ENCODER)

NEVER_READ = {
    "attention_probs_dropout_prob",  # inference drops nothing
    "initializer_range",  # a checkpoint's weights are drawn already
    "layer_norm_eps",  # transformers leaves it out of its LayerNorms
}
GENERIC_BUT_READ = {"num_labels"}  # inherited by PerceiverConfig, where it is no dataclass field


@pytest.mark.parametrize(("model_class", "changes"), CASES)
def test_latents_and_outputs_equal_transformers(pair, model_class, changes):
    both = pair(model_class, **changes)
    both.assert_equal(sample_inputs(both.config, model_class, batch=2))


def test_every_field_that_inference_reads_is_named():
    own = {field.name for field in dataclasses.fields(PerceiverConfig)}
    own -= {field.name for field in dataclasses.fields(PreTrainedConfig)}
    assert ENCODER_FIELDS | set().union(*READ_BY.values()) == (own - NEVER_READ) | GENERIC_BUT_READ


@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_every_field_that_a_class_reads_is_varied(model_class):
    cases = zip(ENCODER, OWN[model_class], strict=True)
    configs = [small(model_class, **common, **own) for common, own in cases]
    for field in ENCODER_FIELDS | READ_BY[model_class]:
        values = {str(getattr(config, field)) for config in configs}
        assert len(values) > 1, f"{field} is {values} in every configuration of {model_class}"


@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_batches_and_repetition_change_nothing(pair, model_class):
    both = pair(model_class)
    for batch in (1, 3, 1):
        both.assert_equal(sample_inputs(both.config, model_class, batch=batch, seed=batch))


@pytest.mark.parametrize("model_class", TASKS["text-classification"] + TASKS["fill-mask"])
def test_text_shorter_than_the_positions(pair, model_class):
    both = pair(model_class)
    both.assert_equal(sample_inputs(both.config, model_class, batch=2)[:, :11])


# Those two have weights of their own, which no Perceiver checkpoint holds.
@pytest.mark.parametrize("hidden_act", sorted(set(ACT2FN) - {"prelu", "xielu"}))
def test_every_activation(pair, hidden_act):
    both = pair(BARE, hidden_act=hidden_act)
    both.assert_equal(sample_inputs(both.config, BARE, batch=2))
