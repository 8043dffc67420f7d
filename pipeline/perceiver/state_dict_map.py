"""Names: which tensors of a Hugging Face checkpoint make up each of ours."""

from collections.abc import Mapping

# A layer's parts, in every attention layer of every class. Several names: their rows, one below the other.
LAYER_NAMES: dict[str, tuple[str, ...]] = {
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
SHARED_NAMES = {"encoder.cross.": "encoder.cross_attention.", "encoder.layers.": "encoder.self_attends."}

# What checkpoints hold and inference never reads, by the end of the name: the tokens of modalities that are never
# masked, and BatchNorm's count of training steps.
NEVER_READ = ("input_preprocessor.mask.audio", "input_preprocessor.mask.image", "batchnorm.num_batches_tracked")


def checkpoint_names(ours: str, places: Mapping[str, str]) -> tuple[str, ...]:
    """The checkpoint's names for our tensor `ours`; `places` says where the model class keeps its parts.

    >>> checkpoint_names("encoder.cross.mlp.up.bias", {"encoder.": "perceiver.encoder."})
    ('perceiver.encoder.cross_attention.mlp.dense1.bias',)
    """
    place = max((place for place in places if ours.startswith(place)), key=len, default=None)
    if place is None:
        raise KeyError(f"no place in a checkpoint is known for {ours}")
    name = places[place] + ours[len(place) :]
    for mine, theirs in SHARED_NAMES.items():
        name = name.replace(mine, theirs)
    for mine, parts in LAYER_NAMES.items():
        if mine in name:
            return tuple(name.replace(mine, part) for part in parts)
    return (name,)


# Where each kind of model keeps its parts.
ENCODER_NAMES = {"encoder.": "perceiver.encoder.", "encoder.latents": "perceiver.embeddings.latents"}
TEXT_NAMES = ENCODER_NAMES | {
    "preprocessor.features.weight": "perceiver.input_preprocessor.embeddings.weight",
    "preprocessor.positions.table": "perceiver.input_preprocessor.position_embeddings.weight",
}
IMAGE_NAMES = ENCODER_NAMES | {
    "preprocessor.features.pointwise.": "perceiver.input_preprocessor.convnet_1x1.",
    "preprocessor.features.conv.": "perceiver.input_preprocessor.convnet.conv.",
    "preprocessor.features.batchnorm.": "perceiver.input_preprocessor.convnet.batchnorm.",
    "preprocessor.features.linear.": "perceiver.input_preprocessor.conv_after_patches.",
    "preprocessor.positions.positions.table": "perceiver.input_preprocessor.position_embeddings.position_embeddings",
    "preprocessor.positions.projection.": "perceiver.input_preprocessor.positions_projection.",
}
MULTIMODAL_NAMES = (
    ENCODER_NAMES
    | {
        "preprocessor.padding.": "perceiver.input_preprocessor.padding.",
        "preprocessor.mask.": "perceiver.input_preprocessor.mask.",
        "decoder.layer.": "perceiver.decoder.decoder.decoding_cross_attention.",
        "decoder.final.": "perceiver.decoder.decoder.final_layer.",
        "decoder.outputs.label.queries.positions.table": (
            "perceiver.decoder.modalities.label.decoder.output_position_encodings.position_embeddings"
        ),
    }
    | {
        f"decoder.outputs.{name}.{ours}": theirs.format(name)
        for name in ("audio", "image", "label")
        for ours, theirs in {
            "queries.padding": "perceiver.decoder.padding.{}",
            "postprocessor.linear.": "perceiver.output_postprocessor.modalities.{}.classifier.",
        }.items()
    }
)


def decoder_names(decoder: str, output: str) -> dict[str, str]:
    """Where a decoder with one `output` lies under the prefix `decoder` of a checkpoint."""
    return {
        "decoder.layer.": f"{decoder}decoding_cross_attention.",
        "decoder.final.": f"{decoder}final_layer.",
        f"decoder.outputs.{output}.queries.positions.table": f"{decoder}output_position_encodings.position_embeddings",
    }
