"""Ranges of the numbers in a config.json that decide how much is built: layers, channels, and sizes of the inputs.

Most numbers are then held against the shapes of the weights, on the meta device. Without these ranges that itself could
be endless, as with a billion layers or labels; and no weight depends on the sizes of images, clips and frames.
"""

import math
import reprlib
from collections.abc import Mapping
from typing import Any

_MAX_CHANNELS = 1_000_000
_MAX_SIDE = 100_000  # pixels, frames
_MAX_LABELS = 200_000  # each has a name; ImageNet-21k has 21,843
_MAX_LAYERS = 1000  # published models have up to 26
_RANGES: Mapping[str, int] = {
    **dict.fromkeys(("num_blocks", "num_self_attends_per_block"), _MAX_LAYERS),
    **dict.fromkeys(("self_attention_widening_factor", "cross_attention_widening_factor"), _MAX_LAYERS),
    **dict.fromkeys(("num_self_attention_heads", "num_cross_attention_heads"), _MAX_CHANNELS),
    **dict.fromkeys(("num_latents", "d_latents", "d_model", "qk_channels", "v_channels"), _MAX_CHANNELS),
    **dict.fromkeys(("output_num_channels", "_label_trainable_num_channels", "samples_per_patch"), _MAX_CHANNELS),
    **dict.fromkeys(("vocab_size", "max_position_embeddings", "audio_samples_per_frame"), 100_000_000),
    **dict.fromkeys(("image_size", "train_size", "output_shape", "num_frames"), _MAX_SIDE),
    "num_labels": _MAX_LABELS,
}
"""The greatest value of each number, or of each number of a list. The least is 1, or 0 of what may be left out."""
_MAY_BE_ZERO = ("num_blocks", "num_self_attends_per_block")  # then only the cross-attention encodes

MAX_POINTS = 1 << 26
"""Pixels or audio samples of one input, or of one output: 67 million, 80 times those of the published models."""

_DEFAULTS: Mapping[str, Any] = {"num_frames": 16, "image_size": 56, "audio_samples_per_frame": 1920}
_CLIPS = "PerceiverForMultimodalAutoencoding"  # the only class that makes frames of `image_size`, and audio of them
_PRODUCTS = (("train_size",), ("output_shape",), ("image_size", "image_size"))
_PRODUCTS_OF_CLIPS = (("num_frames", "image_size", "image_size"), ("num_frames", "audio_samples_per_frame"))


def check_ranges(config: Mapping[str, Any]) -> None:
    """Raise ValueError, with the key and the range, if a number of a config.json is absurd.

    Values that are not numbers, and their combinations, are left to what builds the model.
    """
    for name, most in _RANGES.items():
        least = 0 if name in _MAY_BE_ZERO else 1
        for number in _numbers(config.get(name)):
            if not least <= number <= most:
                shown = reprlib.repr(config[name])
                raise ValueError(f"{name} ({shown}) must be at least {least} and at most {most:,}")
    labels = config.get("id2label")
    if isinstance(labels, Mapping) and len(labels) > _MAX_LABELS:
        raise ValueError(f"id2label has {len(labels):,} labels, at most {_MAX_LABELS:,} are supported")
    is_of_clips = config.get("architectures") == [_CLIPS]
    for names in _PRODUCTS + (_PRODUCTS_OF_CLIPS if is_of_clips else ()):
        points = math.prod(number for name in names for number in _numbers(config.get(name, _DEFAULTS.get(name))))
        if points > MAX_POINTS:
            product = " by ".join(names)
            raise ValueError(f"{product} has {points:,} pixels or samples, at most {MAX_POINTS:,} are supported")


def _numbers(value: Any) -> list[int | float]:
    """Return a number, or those in a list."""
    values = value if isinstance(value, list | tuple) else [value]
    return [each for each in values if isinstance(each, int | float) and not isinstance(each, bool)]
