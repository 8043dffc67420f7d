"""Handwritten digits for the three image models: scikit-learn's 1,797 images, drawn by 43 people."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import PerceiverConfig

from pipeline.demo.local_attention import attend_locally, low_frequencies
from pipeline.demo.recipe import Recipe
from pipeline.demo.training import Schedule
from pipeline.demo.trial import Trial, share_right
from pipeline.reference.published_configs import CONV, FOURIER, LEARNED

HELD_OUT = 360
"""Number of images that are never trained on."""

_GRID = 6  # latents per side of an image
_SIDE = 32  # pixels of the images that are turned and shifted; the model's are smaller
_PLAIN = {  # of all three models
    "num_labels": 10,
    "num_latents": _GRID * _GRID,
    "d_latents": 48,
    "qk_channels": 48,
    "v_channels": 48,
    "num_blocks": 2,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 4,
    "num_cross_attention_heads": 1,
    "attention_probs_dropout_prob": 0.0,
    "id2label": {number: str(number) for number in range(10)},
    "label2id": {str(number): number for number in range(10)},
}
SIZES = {LEARNED: 8, FOURIER: 12, CONV: 32}


def config(model_class: str) -> PerceiverConfig:
    """Return the configuration of the digit model of a class."""
    return PerceiverConfig(**_PLAIN, image_size=SIZES[model_class])


def start_at_places(model: Any) -> None:
    """Let every latent attend to its surroundings at first. Learned positions start as sinusoids."""
    reads = model.perceiver.input_preprocessor
    if reads.position_encoding_type == "trainable":
        side = model.config.image_size
        encoding, chosen = _learned_positions(side), torch.arange(model.config.d_latents)
        with torch.no_grad():
            reads.position_embeddings.position_embeddings.copy_(encoding)
            reads.positions_projection.weight.copy_(torch.eye(encoding.shape[1]))
    else:
        side = 7 if reads.prep_type == "conv" else model.config.image_size
        encoding = reads.position_embeddings([side, side], 1, "cpu", torch.float32)[0]
        chosen = low_frequencies(2, 64, 12, 3)
    places = encoding.view(side, side, -1)[:, :, chosen].permute(2, 0, 1)[None]
    places = F.interpolate(places, (_GRID, _GRID), mode="bilinear", antialias=True)[0].flatten(1).T
    content = reads.num_channels - encoding.shape[1]
    attend_locally(model, places, content, content + chosen)


def _learned_positions(side: int) -> Tensor:
    """Return encodings [side², 256] of the places of an image; the first 48 channels have low frequencies."""
    frequencies = torch.cat([math.pi * torch.linspace(0.02, 0.3, 12), math.pi * torch.linspace(0.3, 1, 52)])
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = torch.stack([rows, columns], dim=-1).view(-1, 2, 1) * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # [side², 4, 64]
    return torch.cat([waves[..., :12].flatten(1), waves[..., 12:].flatten(1)], dim=1)


@dataclass(frozen=True)
class Digits:
    """Images uint8 [N, 8, 8], white on black, and the digits int64 [N] that they show."""

    images: np.ndarray
    labels: np.ndarray


def load_digits() -> tuple[Digits, Digits]:
    """Return the images to train on and the held-out ones, `HELD_OUT` drawn with a fixed seed."""
    from sklearn import datasets

    data = datasets.load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    held_out, trained = order[:HELD_OUT], order[HELD_OUT:]
    first, second = (Digits(images[part], data.target[part].astype(np.int64)) for part in (trained, held_out))
    return first, second


def enlarge(image: np.ndarray, side: int) -> Image.Image:
    """Return an image uint8 [8, 8] as a smooth RGB image of `side` pixels."""
    return Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")


class DigitLoss:
    """Cross-entropy of random batches of turned, shifted, scaled and sheared digits."""

    def __init__(self, data: Digits, size: int, seed: int, batch: int = 32) -> None:
        images = np.stack([np.asarray(enlarge(image, _SIDE))[..., 0] for image in data.images])
        self._images = torch.from_numpy(images)[:, None].float() / 255
        self._labels = torch.from_numpy(data.labels)
        self._size, self._batch = size, batch
        self._random = torch.Generator().manual_seed(seed)

    def __call__(self, model: Any, step: int) -> Tensor:  # noqa: ARG002
        chosen = torch.randint(len(self._labels), (self._batch,), generator=self._random)
        images = self._moved(self._images[chosen])
        pixels = F.interpolate(images, (self._size, self._size), mode="bicubic", antialias=True).clamp(0, 1)
        logits = model(inputs=pixels.expand(-1, 3, -1, -1) * 2 - 1).logits
        return F.cross_entropy(logits, self._labels[chosen], label_smoothing=0.05)

    def _moved(self, images: Tensor) -> Tensor:
        """Turn by up to 12°, scale by up to 15 %, shear by up to 0.15, shift by up to one of the 8 original pixels."""
        angle, shear, x, y, width, height, light = torch.rand(7, len(images), generator=self._random) * 2 - 1
        angle, shear, x, y = 0.21 * angle, 0.15 * shear, 0.25 * x, 0.25 * y
        width, height = 1 + 0.15 * width, 1 + 0.15 * height
        cosine, sine = angle.cos(), angle.sin()
        rows = torch.stack([cosine * width, shear - sine * height, x, sine * width, cosine * height, y], dim=1)
        grid = F.affine_grid(rows.view(-1, 2, 3), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False) * (1 - 0.1 * light.abs()[:, None, None, None])


def write_held_out(folder: Path) -> dict[str, str]:
    """Write the held-out digits as PNG files of 64 × 64 pixels. Return the digits by name."""
    _, held_out = load_digits()
    answers = {f"digit-{number:03d}.png": str(label) for number, label in enumerate(held_out.labels)}
    for name, image in zip(answers, held_out.images, strict=True):
        enlarge(image, 64).save(folder / name)
    return answers


_TRIAL = Trial(
    task="image-classification",
    write=write_held_out,
    score=share_right,
    bar=97.0,
    figure=f"% of {HELD_OUT} held-out digits recognised",
)


def _recipe(model_class: str, steps: int = 1800, rate: float = 1.5e-3, *, half: bool = False) -> Recipe:
    return Recipe(
        model_class=model_class,
        config=partial(config, model_class),
        start=start_at_places,
        half=half,
        loss=lambda seed: DigitLoss(load_digits()[0], SIZES[model_class], seed),
        schedule=Schedule(steps=steps, rate=rate),
        trial=_TRIAL,
        data=(
            "scikit-learn's digits (Optical Recognition of Handwritten Digits, UCI): 1,797 images of 8 by 8 pixels. "
            "360 of them, drawn with a fixed seed, are held out; the others are turned, shifted, scaled and sheared."
        ),
        licence="CC BY 4.0 (E. Alpaydin and C. Kaynak, 1998, https://doi.org/10.24432/C50P49).",
    )


RECIPES: Mapping[str, Recipe] = {
    "fourier": _recipe(FOURIER),
    "learned": _recipe(LEARNED, steps=2400, rate=2e-3, half=True),
    "conv": _recipe(CONV),
}
