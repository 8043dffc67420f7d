"""Predictions of transformers: the model of a checkpoint, and its outputs under the engine's names."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import PerceiverConfig
from transformers.models.perceiver import modeling_perceiver

from pipeline.checkpoints import CheckpointError, read_json
from pipeline.reference import published_configs
from pipeline.reference.sample_inputs import SampleInputs

Outputs: TypeAlias = dict[str, Tensor]
Points: TypeAlias = Mapping[str, Tensor | None]

MAX_CHUNKS = 128  # in which transformers' documentation decodes a clip


def model_class_of(folder: Path) -> str:
    """Return the model class in a checkpoint's config.json. CheckpointError if it is not one of Perceiver's."""
    named = read_json(folder, "config.json").get("architectures") or [None]
    if named[0] not in published_configs.MODEL_CLASSES:
        known = ", ".join(published_configs.MODEL_CLASSES)
        raise CheckpointError(f"{folder / 'config.json'}: architectures ({named[0]!r}) must be one of {known}")
    return str(named[0])


def load(folder: Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> Any:
    """Load transformers' model from a local checkpoint, in evaluation mode."""
    model_class = getattr(modeling_perceiver, model_class_of(folder))
    return model_class.from_pretrained(folder, dtype=dtype).to(device).eval()


@torch.inference_mode()
def predict(model: Any, inputs: SampleInputs, mask: Tensor | None = None, *, points: Points | None = None) -> Outputs:
    """Return latents [B, N, D] and the outputs of the class: "logits", "flow", or "audio", "image" and "label".

    `points` selects outputs of the multimodal model: flat indices of "audio" patches and "image" pixels; all by
    default, which only small configurations can decode in one pass. The learned image model interpolates its positions
    for images of another size than the trained one.
    """
    model_class = type(model).__name__
    extra: dict[str, Any] = {}
    if model_class == published_configs.LEARNED:
        extra["interpolate_pos_encoding"] = True
    if model_class == published_configs.MULTIMODAL:
        extra["subsampled_output_points"] = dict(points or chunk_points(model.config, 0, of=1))
    output = model(inputs=inputs, attention_mask=mask, output_hidden_states=True, **extra)
    latents, logits = {"latents": output.hidden_states[-1]}, output.logits
    if logits is None:
        return latents
    if isinstance(logits, dict):
        return {**latents, **logits}
    return latents | {"flow" if model_class == published_configs.FLOW else "logits": logits}


def num_chunks(config: PerceiverConfig) -> int:
    """Return the number of chunks in which a clip is decoded: 128, or fewer for a small model."""
    return min(MAX_CHUNKS, *_output_sizes(config))


def chunk_points(config: PerceiverConfig, chunk: int, of: int | None = None) -> dict[str, Tensor | None]:
    """Return the points of one chunk of `of`, by default as many as in transformers' documentation."""
    of = of or num_chunks(config)
    if not 0 <= chunk < of:
        raise ValueError(f"chunk ({chunk}) must be between 0 and {of - 1}")
    audio, image = (torch.arange(n * chunk // of, n * (chunk + 1) // of) for n in _output_sizes(config))
    return {"audio": audio, "image": image, "label": None}


def join_chunks(chunks: Iterable[Outputs]) -> Outputs:
    """Join the outputs of chunks: audio and image concatenated, label and latents of the first."""
    parts = list(chunks)
    joined = {name: torch.cat([part[name] for part in parts], dim=1) for name in ("audio", "image")}
    return {**parts[0], **joined}


def _output_sizes(config: PerceiverConfig) -> tuple[int, int]:
    """Return the numbers of audio patches and pixels that the multimodal model decodes."""
    frames, height, width = config.output_shape[1:]
    return config.num_frames * config.audio_samples_per_frame // config.samples_per_patch, frames * height * width
