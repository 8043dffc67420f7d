"""Reference outputs of transformers, used as documented, to compare runs with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    PerceiverForMaskedLM,
    PerceiverForOpticalFlow,
    PerceiverForSequenceClassification,
    PerceiverImageProcessorPil,
    PerceiverTokenizer,
)
from transformers.models.perceiver import modeling_perceiver

from pipeline.reference import transformers_model

MASK = 3


def masks_filled(folder: Path, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (token ids, scores) of the five best candidates, [masks, 5] each, for every text."""
    tokenizer, model = PerceiverTokenizer(), PerceiverForMaskedLM.from_pretrained(folder).eval()
    filled = []
    for text in texts:
        encoding = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            logits = model(inputs=encoding.input_ids, attention_mask=encoding.attention_mask).logits[0]
        best = logits[(encoding.input_ids[0] == MASK).nonzero()[:, 0]].softmax(dim=-1).topk(5)
        filled.append((best.indices.numpy(), best.values.numpy()))
    return filled


def text_logits(folder: Path, texts: list[str]) -> np.ndarray:
    """Return logits [texts, labels]."""
    tokenizer, model = PerceiverTokenizer(), PerceiverForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return np.stack([model(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in texts])


def text_latents(folder: Path, texts: list[str]) -> np.ndarray:
    """Return latents [texts, N, D]."""
    tokenizer, model = PerceiverTokenizer(), PerceiverForMaskedLM.from_pretrained(folder).eval()
    length = model.config.max_position_embeddings
    encodings = [tokenizer(text, truncation=True, max_length=length, return_tensors="pt") for text in texts]
    with torch.no_grad():
        return np.stack([model.perceiver(inputs=e.input_ids).last_hidden_state[0].numpy() for e in encodings])


def image_logits(folder: Path, images: list[np.ndarray]) -> np.ndarray:
    """Return logits [images, labels]."""
    model = getattr(modeling_perceiver, transformers_model.model_class_of(folder)).from_pretrained(folder).eval()
    processor = PerceiverImageProcessorPil.from_pretrained(folder)
    with torch.no_grad():
        pixels = [processor(image, return_tensors="pt").pixel_values for image in images]
        return np.stack([model(inputs=each).logits[0].numpy() for each in pixels])


def clips_in_passes(folder: Path, frames: np.ndarray, samples: np.ndarray) -> dict[str, np.ndarray]:
    """Return audio [B, S], image [B, T · h · w, 3], label [B, labels] and latents, decoded in 128 passes.

    Inputs are frames uint8 [B, T, h, w, 3] and samples [B, S].
    """
    model = transformers_model.load(folder)
    image = torch.from_numpy(frames.transpose(0, 1, 4, 2, 3) / np.float32(255))
    inputs = {"image": image, "audio": torch.from_numpy(samples)[..., None]}
    inputs["label"] = torch.zeros(len(frames), model.config.num_labels)
    chunks = (
        transformers_model.chunk_points(model.config, chunk)
        for chunk in range(transformers_model.num_chunks(model.config))
    )
    joined: dict[str, Any] = transformers_model.join_chunks(
        transformers_model.predict(model, inputs, points=points) for points in chunks
    )
    return {name: value.numpy() for name, value in joined.items()}


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return the sorted start offsets of tiles along one side, as in the published recipe."""
    return sorted({*range(0, max(0, length - tile), tile - overlap), max(0, length - tile)})


def patches(frames: np.ndarray) -> np.ndarray:
    """Return float32 [1, 2, 27, h, w]: the 3 × 3 neighbourhood of each pixel as 27 channels, zero-padded."""
    values = frames.astype(np.float32) / 255 * 2 - 1
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = frames.shape[1:3]
    shifted = [padded[:, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    return np.concatenate(shifted, axis=-1).transpose(0, 3, 1, 2)[None]


def flow_in_tiles(model: PerceiverForOpticalFlow, frames: np.ndarray, overlap: tuple[int, int]) -> np.ndarray:
    """Return flow float64 [H, W, 2] in pixels, computed by transformers tile by tile and blended."""
    tile = model.config.train_size
    height, width = frames.shape[1:3]
    below, beyond = max(0, tile[0] - height), max(0, tile[1] - width)
    frames = np.pad(frames, ((0, 0), (0, below), (0, beyond), (0, 0)), mode="edge")
    y, x = np.mgrid[: tile[0], : tile[1]]
    weight = np.min([x + 1, tile[1] - x, y + 1, tile[0] - y], axis=0)[..., None]
    total, blended = np.zeros((*frames.shape[1:3], 1)), np.zeros((*frames.shape[1:3], 2))
    for top in tile_starts(height, tile[0], overlap[0]):
        for left in tile_starts(width, tile[1], overlap[1]):
            here = np.s_[top : top + tile[0], left : left + tile[1]]
            with torch.no_grad():
                flow = model(inputs=torch.from_numpy(patches(frames[(slice(None), *here)]))).logits[0].numpy()
            blended[here] += weight * flow.astype(np.float64) * 20
            total[here] += weight
    return (blended / total)[:height, :width]


def image_latents(folder: Path, images: list[np.ndarray]) -> np.ndarray:
    """Return latents [images, N, D]."""
    model = getattr(modeling_perceiver, transformers_model.model_class_of(folder)).from_pretrained(folder).eval()
    processor = PerceiverImageProcessorPil.from_pretrained(folder)
    with torch.no_grad():
        pixels = [processor(image, return_tensors="pt").pixel_values for image in images]
        return np.stack([model(each, output_hidden_states=True).hidden_states[-1][0].numpy() for each in pixels])
