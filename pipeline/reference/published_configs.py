"""Configurations: published shapes of Perceiver IO, the tasks of each model class, small configurations for tests.

A shape is the difference of a published config.json from the defaults of `PerceiverConfig`. It has no weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from transformers import PerceiverConfig

MASKED_LM = "PerceiverForMaskedLM"
SEQUENCE = "PerceiverForSequenceClassification"
LEARNED = "PerceiverForImageClassificationLearned"
FOURIER = "PerceiverForImageClassificationFourier"
CONV = "PerceiverForImageClassificationConvProcessing"
FLOW = "PerceiverForOpticalFlow"
MULTIMODAL = "PerceiverForMultimodalAutoencoding"
BARE = "PerceiverModel"

TASKS: Mapping[str, tuple[str, ...]] = {
    "fill-mask": (MASKED_LM,),
    "text-classification": (SEQUENCE,),
    "image-classification": (LEARNED, FOURIER, CONV),
    "optical-flow": (FLOW,),
    "multimodal-autoencoding": (MULTIMODAL,),
    "feature-extraction": (BARE, MASKED_LM, SEQUENCE, LEARNED, FOURIER, CONV, FLOW, MULTIMODAL),
}
MODEL_CLASSES = TASKS["feature-extraction"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Shape of one published checkpoint: model class, changes from the default configuration.

    narrower: further changes for about a tenth of the parameters with the same inputs.
    """

    name: str
    model_class: str
    changes: Mapping[str, Any]
    narrower: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """The task of the model class, other than feature extraction."""
        return next(task for task, model_classes in TASKS.items() if self.model_class in model_classes)

    def config(self) -> PerceiverConfig:
        return PerceiverConfig(**self.changes)

    def smaller(self) -> Self:
        """Return the shape with about a tenth of the parameters. ValueError if `narrower` is empty."""
        if not self.narrower:
            raise ValueError(f"shape {self.name!r} has no smaller version")
        return replace(self, name=f"{self.name}-small", changes={**self.changes, **self.narrower}, narrower={})


_VISION: Mapping[str, Any] = {
    "num_latents": 512,
    "d_latents": 1024,
    "num_blocks": 8,
    "num_self_attends_per_block": 6,
    "num_cross_attention_heads": 1,
    "image_size": 224,
    "num_labels": 1000,  # ImageNet
}

_FLOW: Mapping[str, Any] = {
    "num_latents": 2048,
    "d_latents": 512,
    "d_model": 322,
    "num_self_attends_per_block": 24,
    "num_self_attention_heads": 16,
    "num_cross_attention_heads": 1,
}

_MULTIMODAL: Mapping[str, Any] = {
    "num_latents": 784,
    "d_latents": 512,
    "d_model": 704,
    "num_self_attends_per_block": 8,
    "num_cross_attention_heads": 1,
    "num_labels": 700,  # Kinetics
}

_SHAPES = (
    Shape(name="language-perceiver", model_class=MASKED_LM, changes={"qk_channels": 256, "v_channels": 1280}),
    Shape(name="vision-perceiver-learned", model_class=LEARNED, changes={**_VISION, "d_model": 512}),
    Shape(
        name="vision-perceiver-fourier",
        model_class=FOURIER,
        changes={**_VISION, "d_model": 261},
        narrower={"d_latents": 320},
    ),
    Shape(name="vision-perceiver-conv", model_class=CONV, changes={**_VISION, "d_model": 322}),
    Shape(name="optical-flow-perceiver", model_class=FLOW, changes=_FLOW, narrower={"d_latents": 144}),
    Shape(
        name="multimodal-perceiver",
        model_class=MULTIMODAL,
        changes=_MULTIMODAL,
        narrower={"d_latents": 96, "output_num_channels": 96, "_label_trainable_num_channels": 192},
    ),
)
SHAPES: Mapping[str, Shape] = {shape.name: shape for shape in _SHAPES}

_SMALL: Mapping[str, Any] = {
    "num_latents": 6,
    "d_latents": 32,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 4,
    "num_cross_attention_heads": 1,
    "num_labels": 5,
}
_SMALL_TEXT: Mapping[str, Any] = {"d_model": 24, "max_position_embeddings": 40}
_SMALL_OF: Mapping[str, Mapping[str, Any]] = {
    BARE: {"d_model": 24},
    MASKED_LM: _SMALL_TEXT,
    SEQUENCE: _SMALL_TEXT,
    LEARNED: {"image_size": 12},
    FOURIER: {"image_size": 20},
    CONV: {"image_size": 36},
    FLOW: {"train_size": [16, 24]},
    MULTIMODAL: {
        "num_frames": 2,
        "audio_samples_per_frame": 32,
        "samples_per_patch": 8,
        "image_size": 4,
        "output_shape": [1, 2, 16, 16],
        "output_num_channels": 20,
        "_label_trainable_num_channels": 48,
    },
}


def small(model_class: str, **changes: Any) -> PerceiverConfig:
    """Return a configuration of the class that predicts in milliseconds, with `changes` applied."""
    if model_class not in _SMALL_OF:
        raise ValueError(f"model class {model_class!r} must be one of {', '.join(MODEL_CLASSES)}")
    return PerceiverConfig(**{**_SMALL, **_SMALL_OF[model_class], **changes})
