"""What transformers itself predicts: the model of a checkpoint's class, and its outputs under the engine's names."""

from __future__ import annotations

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

MAX_CHUNKS = 128  # in how many passes transformers' documentation decodes a clip


def model_class_of(folder: Path) -> str:
    """The model class that a checkpoint's config.json names."""
    named = read_json(folder, "config.json").get("architectures") or [None]
    if named[0] not in published_configs.MODEL_CLASSES:
        known = ", ".join(published_configs.MODEL_CLASSES)
        raise CheckpointError(f"{folder / 'config.json'}: architectures names {named[0]!r}, none of {known}")
    return str(named[0])


def load(folder: Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> Any:
    """transformers' model from a local checkpoint, ready to predict."""
    model_class = getattr(modeling_perceiver, model_class_of(folder))
    return model_class.from_pretrained(folder, dtype=dtype).to(device).eval()


@torch.inference_mode()
def predict(model: Any, inputs: SampleInputs, mask: Tensor | None = None, *, points: Points | None = None) -> Outputs:
    """Latents [B, N, D] and whatever the class puts out: "logits", "flow", or "audio", "image" and "label".

    `points` belongs to the multimodal model, which has no answer without it: flat indices of "audio" patches and
    "image" pixels. The learned image model interpolates its positions where the image is not of the trained size.
    """
    model_class = type(model).__name__
    extra: dict[str, Any] = {}
    if model_class == published_configs.LEARNED:
        extra["interpolate_pos_encoding"] = True
    if model_class == published_configs.MULTIMODAL:
        extra["subsampled_output_points"] = dict(points or all_points(model.config))
    answer = model(inputs=inputs, attention_mask=mask, output_hidden_states=True, **extra)
    return {"latents": answer.hidden_states[-1], **_named(model_class, answer.logits)}


def _named(model_class: str, logits: Any) -> Outputs:
    if logits is None:
        return {}
    if isinstance(logits, dict):
        return dict(logits)
    return {"flow" if model_class == published_configs.FLOW else "logits": logits}


def all_points(config: PerceiverConfig) -> dict[str, Tensor | None]:
    """The points of every output of the multimodal model, all in one pass: for small configurations."""
    audio, image = _places(config)
    return {"audio": torch.arange(audio), "image": torch.arange(image), "label": None}


def num_chunks(config: PerceiverConfig) -> int:
    """In how many passes a clip is decoded: 128, fewer where a small model has fewer patches of audio."""
    return min(MAX_CHUNKS, *_places(config))


def chunk_points(config: PerceiverConfig, chunk: int) -> dict[str, Tensor | None]:
    """The points of pass number `chunk`, as transformers' documentation cuts a clip."""
    of = num_chunks(config)
    if not 0 <= chunk < of:
        raise ValueError(f"chunk ({chunk}) must be between 0 and {of - 1}")
    audio, image = (torch.arange(n * chunk // of, n * (chunk + 1) // of) for n in _places(config))
    return {"audio": audio, "image": image, "label": None}


def join_chunks(answers: Iterable[Outputs]) -> Outputs:
    """One answer of several passes: audio and image one after the other, label and latents as in the first."""
    parts = list(answers)
    joined = {name: torch.cat([part[name] for part in parts], dim=1) for name in ("audio", "image")}
    return {**parts[0], **joined}


def _places(config: PerceiverConfig) -> tuple[int, int]:
    """How many audio patches and pixels the multimodal model can be asked for."""
    frames, height, width = config.output_shape[1:]
    return config.num_frames * config.audio_samples_per_frame // config.samples_per_patch, frames * height * width
