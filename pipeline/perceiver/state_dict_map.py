"""Names of a Hugging Face checkpoint's tensors for each tensor of ours.

`STATE_DICT_MAPS` maps prefixes of our names to the checkpoint's, for each model class; `LAYER_PARTS` maps the parts of
an attention layer, which are named alike in all classes.
"""

from collections.abc import Mapping

# If a part has several names, our tensor holds theirs one below the other.
LAYER_PARTS: dict[str, tuple[str, ...]] = {
    "attention.norm.": ("attention.self.layernorm1.",),
    "attention.norm_queries.": ("attention.self.layernorm1.",),
    "attention.norm_inputs.": ("attention.self.layernorm2.",),
    "attention.query.": ("attention.self.query.",),
    "attention.kv.": ("attention.self.key.", "attention.self.value."),
    "attention.qkv.": ("attention.self.query.", "attention.self.key.", "attention.self.value."),
    "attention.out.": ("attention.output.dense.",),
    "mlp.norm.": ("layernorm.",),
    "mlp.up.": ("mlp.dense1.",),
    "mlp.down.": ("mlp.dense2.",),
}

# Ends of names that checkpoints may hold and inference does not read: tokens of modalities that are never masked, and
# BatchNorm's count of training steps.
UNUSED_NAMES = ("input_preprocessor.mask.audio", "input_preprocessor.mask.image", "batchnorm.num_batches_tracked")


def _encoder(prefix: str) -> dict[str, str]:
    return {
        "encoder.latents": f"{prefix}embeddings.latents",
        "encoder.cross.": f"{prefix}encoder.cross_attention.",
        "encoder.layers.": f"{prefix}encoder.self_attends.",
    }


def _decoder(prefix: str) -> dict[str, str]:
    return {
        "decoder.layer.": f"{prefix}decoding_cross_attention.",
        "decoder.final.": f"{prefix}final_layer.",
        "decoder.outputs.logits.queries.positions.table": f"{prefix}output_position_encodings.position_embeddings",
    }


_TEXT = {
    **_encoder("perceiver."),
    "preprocessor.features.weight": "perceiver.input_preprocessor.embeddings.weight",
    "preprocessor.positions.table": "perceiver.input_preprocessor.position_embeddings.weight",
}
_IMAGE = {
    **_encoder("perceiver."),
    **_decoder("perceiver.decoder.decoder."),
    "preprocessor.features.pointwise.": "perceiver.input_preprocessor.convnet_1x1.",
    "preprocessor.features.conv.": "perceiver.input_preprocessor.convnet.conv.",
    "preprocessor.features.batchnorm.": "perceiver.input_preprocessor.convnet.batchnorm.",
    "preprocessor.features.linear.": "perceiver.input_preprocessor.conv_after_patches.",
    "preprocessor.positions.positions.table": "perceiver.input_preprocessor.position_embeddings.position_embeddings",
    "preprocessor.positions.projection.": "perceiver.input_preprocessor.positions_projection.",
}
_LABEL_POSITIONS = "perceiver.decoder.modalities.label.decoder.output_position_encodings.position_embeddings"
_OUTPUT_POSTPROCESSOR = "perceiver.output_postprocessor.modalities"

STATE_DICT_MAPS: dict[str, dict[str, str]] = {
    "PerceiverModel": _encoder(""),
    "PerceiverForMaskedLM": {
        **_TEXT,
        **_decoder("perceiver.decoder."),
        "decoder.outputs.logits.postprocessor.bias": "embedding_decoder.bias",
    },
    "PerceiverForSequenceClassification": {**_TEXT, **_decoder("perceiver.decoder.decoder.")},
    "PerceiverForImageClassificationLearned": _IMAGE,
    "PerceiverForImageClassificationFourier": _IMAGE,
    "PerceiverForImageClassificationConvProcessing": _IMAGE,
    "PerceiverForOpticalFlow": _IMAGE,
    "PerceiverForMultimodalAutoencoding": {
        **_encoder("perceiver."),
        **_decoder("perceiver.decoder.decoder."),
        "preprocessor.padding.": "perceiver.input_preprocessor.padding.",
        "preprocessor.mask.": "perceiver.input_preprocessor.mask.",
        "decoder.outputs.audio.queries.padding": "perceiver.decoder.padding.audio",
        "decoder.outputs.image.queries.padding": "perceiver.decoder.padding.image",
        "decoder.outputs.label.queries.padding": "perceiver.decoder.padding.label",
        "decoder.outputs.label.queries.positions.table": _LABEL_POSITIONS,
        "decoder.outputs.audio.postprocessor.linear.": f"{_OUTPUT_POSTPROCESSOR}.audio.classifier.",
        "decoder.outputs.image.postprocessor.linear.": f"{_OUTPUT_POSTPROCESSOR}.image.classifier.",
        "decoder.outputs.label.postprocessor.linear.": f"{_OUTPUT_POSTPROCESSOR}.label.classifier.",
    },
}


def checkpoint_names(ours: str, prefixes: Mapping[str, str]) -> tuple[str, ...]:
    """Return the checkpoint's names for our tensor `ours`; raise KeyError if `prefixes` has none that it starts with.

    >>> checkpoint_names("encoder.cross.mlp.up.bias", STATE_DICT_MAPS["PerceiverForMaskedLM"])
    ('perceiver.encoder.cross_attention.mlp.dense1.bias',)
    """
    prefix = next((prefix for prefix in prefixes if ours.startswith(prefix)), None)
    if prefix is None:
        raise KeyError(f"tensor {ours} has no name in the checkpoint: it starts with none of {sorted(prefixes)}")
    name = prefixes[prefix] + ours[len(prefix) :]
    for part, theirs in LAYER_PARTS.items():
        if part in name:
            return tuple(name.replace(part, each) for each in theirs)
    return (name,)
