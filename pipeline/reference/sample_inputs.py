"""Realistic model inputs for each model class: text, smooth images, moving frames, audio tones."""

from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PerceiverConfig

from pipeline.reference import published_configs

SampleInputs: TypeAlias = Tensor | dict[str, Tensor]

PAD, MASK, CLS, SEP = 0, 3, 4, 5
_SPECIAL = 6  # number of special tokens: the id of a byte is its value plus this
_SENTENCE = (
    "In the beginning the byte array was long, and every latent read all of it. "
    "Größere Bilder, längere Texte: les requêtes décident de ce qui sort. "
)
_MASKED = 0.15  # share of masked bytes, as in the paper
_BARE_INPUTS = 50


def sample_inputs(
    config: PerceiverConfig, model_class: str, batch: int = 1, seed: int = 0, *, padded: bool = False
) -> SampleInputs:
    """Return `batch` units in transformers' format, float32 or int64, on the CPU.

    ids [B, max_position_embeddings], 15% masked for the masked language model; pixels [B, 3, H, W], normalized; frame
    patches [B, 2, 27, H, W] in [-1, 1]; {"audio": [B, S, 1], "image": [B, T, 3, H, W], "label": [B, labels]}; for the
    bare model [B, 50, d_model]. With `padded`, every text but the first is shorter and padded; see `sample_mask`.
    """
    generator = torch.Generator().manual_seed(seed)
    if model_class in (published_configs.MASKED_LM, published_configs.SEQUENCE):
        return _ids(config, batch, generator, masked=model_class == published_configs.MASKED_LM, padded=padded)
    if model_class in published_configs.TASKS["image-classification"]:
        return random_images((batch, 3), config.image_size, config.image_size, generator) * 4 - 2
    if model_class == published_configs.FLOW:
        return _frame_patches(batch, config.train_size, generator)
    if model_class == published_configs.MULTIMODAL:
        return _clip(config, batch, generator)
    if model_class == published_configs.BARE:
        return torch.randn(batch, _BARE_INPUTS, config.d_model, generator=generator)
    raise ValueError(f"model class {model_class!r} must be one of {', '.join(published_configs.MODEL_CLASSES)}")


def sample_mask(inputs: SampleInputs) -> Tensor | None:
    """Return the attention mask [B, L] int64 of padded ids, 1 = attend; None if nothing is padded."""
    if not isinstance(inputs, Tensor) or inputs.is_floating_point() or bool((inputs != PAD).all()):
        return None
    return (inputs != PAD).long()


def masked_positions(ids: Tensor) -> Tensor:
    """Return the positions [B, P] of `[MASK]` in ids [B, L]. ValueError if rows have different numbers of them."""
    counts = (ids == MASK).sum(dim=1)
    if not bool((counts == counts[0]).all()):
        raise ValueError(f"rows have {counts.tolist()} masks: every row must have the same number")
    return (ids == MASK).nonzero()[:, 1].reshape(ids.shape[0], -1)


def sample_unit(config: PerceiverConfig, model_class: str, batch: int = 1) -> tuple[SampleInputs, Tensor | None]:
    """Return sample inputs and the points that the task decodes: masked positions for fill-mask, else None."""
    inputs = sample_inputs(config, model_class, batch)
    if model_class == published_configs.MASKED_LM and isinstance(inputs, Tensor):
        return inputs, masked_positions(inputs)
    return inputs, None


def to_device(inputs: SampleInputs, device: str | torch.device, dtype: torch.dtype) -> Any:
    """Move inputs to `device`, floating-point ones in `dtype`."""
    if isinstance(inputs, dict):
        return {name: to_device(value, device, dtype) for name, value in inputs.items()}
    return inputs.to(device, dtype if inputs.is_floating_point() else None)


def _ids(config: PerceiverConfig, batch: int, generator: torch.Generator, *, masked: bool, padded: bool) -> Tensor:
    length = config.max_position_embeddings
    ids = torch.full((batch, length), PAD)
    for row in range(batch):
        end = max(4, length - row * length // (2 * batch)) if padded else length
        begin = int(torch.randint(len(_SENTENCE), (), generator=generator))
        text = (_SENTENCE * (2 + length // len(_SENTENCE))).encode()[begin : begin + end - 2]
        # The modulo is for the small vocabularies of tests.
        ids[row, 1 : end - 1] = torch.tensor(list(text)) % (config.vocab_size - _SPECIAL) + _SPECIAL
        ids[row, 0], ids[row, end - 1] = CLS, SEP
        if masked:
            places = torch.randperm(end - 2, generator=generator)[: round(_MASKED * length)] + 1
            ids[row, places] = MASK
    return ids


def random_images(lead: tuple[int, ...], height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return random images [*lead, H, W] in [0, 1], with detail at several scales as in photos."""
    flat = torch.zeros(1, lead[0] * lead[1], height, width)
    for cells in (3, 12, 48):
        noise = torch.rand(1, flat.shape[1], min(cells, height), min(cells, width), generator=generator)
        flat += F.interpolate(noise, (height, width), mode="bilinear", align_corners=True)
    low, high = flat.amin(dim=(2, 3), keepdim=True), flat.amax(dim=(2, 3), keepdim=True)
    return ((flat - low) / (high - low)).reshape(*lead, height, width)


def _frame_patches(batch: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return the patches of an image and of the image moved by (3, 2) pixels."""
    height, width = size
    image = random_images((batch, 3), height + 2, width + 3, generator) * 2 - 1
    return frame_patches(torch.stack([image[..., 2:, 3:], image[..., :height, :width]], dim=1)).contiguous()


def frame_patches(frames: Tensor) -> Tensor:
    """Return each pixel with its neighbors, [B, 2, 27, H, W] (kernel row, column, color), of frames [B, 2, 3, H, W]."""
    batch, _, _, height, width = frames.shape
    patches = F.unfold(frames.flatten(0, 1), kernel_size=3, padding=1)  # color, kernel row, kernel column
    patches = patches.reshape(batch, 2, 3, 9, height, width)
    return patches.transpose(2, 3).reshape(batch, 2, 27, height, width)


def _clip(config: PerceiverConfig, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return a drifting image with a chord, and zeros for the label, which the model replaces by its mask token."""
    frames, (height, width) = config.num_frames, config.output_shape[2:]
    image = random_images((batch, 3), height + frames, width + frames, generator)
    image = torch.stack([image[..., i : i + height, i : i + width] for i in range(frames)], dim=1)
    seconds = torch.arange(frames * config.audio_samples_per_frame) / 48_000
    pitch = 200 + 2_000 * torch.rand(batch, 3, 1, generator=generator)
    audio = torch.sin(2 * torch.pi * pitch * seconds).mean(dim=1).unsqueeze(-1)
    return {"audio": audio, "image": image, "label": torch.zeros(batch, config.num_labels)}
