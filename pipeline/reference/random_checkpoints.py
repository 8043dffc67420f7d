"""Checkpoints with random weights that are suitable for parity tests.

With transformers' initialization outputs are so small that absolute differences prove nothing; with large weights
float32 rounding dominates. The weights drawn here give activations of about unit variance, and every bias, scale and
statistic has an effect.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PerceiverConfig, PerceiverImageProcessorPil
from transformers.models.perceiver import modeling_perceiver

from pipeline.reference.published_configs import MODEL_CLASSES, TASKS


@torch.no_grad()
def draw_weights(model: nn.Module, seed: int) -> None:
    """Draw the weights of `model` in place: N(0, 1 / fan-in), scales of norms 1 ± 0.2, biases ± 0.1.

    ± is one standard deviation. BatchNorm statistics are drawn too; scales and variances are positive. The same seed
    gives the same weights on every machine with the same torch.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        norm = isinstance(module, nn.LayerNorm | _BatchNorm)
        for name, parameter in module.named_parameters(recurse=False):
            if norm and name == "weight":
                parameter.normal_(1.0, 0.2, generator=generator).abs_()
            elif parameter.ndim < 2:
                parameter.normal_(0.0, 0.1, generator=generator)
            else:
                parameter.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0.0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)


def build_model(model_class: str, config: PerceiverConfig, seed: int) -> Any:
    """Return transformers' model of the class with random weights, in evaluation mode: float32, on the CPU."""
    if model_class not in MODEL_CLASSES:
        raise ValueError(f"model class {model_class!r} must be one of {', '.join(MODEL_CLASSES)}")
    model = getattr(modeling_perceiver, model_class)(config)
    draw_weights(model, seed)
    return model.eval()


def make_checkpoint(model_class: str, config: PerceiverConfig, folder: Path, seed: int = 0) -> Path:
    """Save a random checkpoint in transformers' format: config.json, safetensors, image processor.

    The image processor is the published one, scaled from 224 pixels to `config.image_size`. Returns `folder`, created
    if missing.
    """
    build_model(model_class, config, seed).save_pretrained(folder)
    if model_class in TASKS["image-classification"]:
        size, crop = config.image_size, round(config.image_size * 256 / 224)
        processor = PerceiverImageProcessorPil(  # the other image processor needs torchvision
            size={"height": size, "width": size}, crop_size={"height": crop, "width": crop}
        )
        processor.save_pretrained(folder)
    return folder
