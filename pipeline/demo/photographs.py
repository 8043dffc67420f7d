"""Real photographs that are moved by known transforms: those of scikit-image and scikit-learn."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

HELD_OUT = ("chelsea.png", "china.jpg", "coffee.png")
"""Photographs that are never trained on: a cat, a temple, a cup of coffee."""

TRAINED = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "coins.png",
    "flower.jpg",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
)
DATA = (
    f"Photographs of scikit-image and scikit-learn, moved by known transforms: {', '.join(TRAINED)}. "
    f"Held out: {', '.join(HELD_OUT)}."
)
LICENCE = "Public domain, CC0 and CC BY, per photograph: README.txt in `skimage/data` and in `sklearn/datasets/images`."

_LONGEST = 512  # pixels of the longer side of a photograph before it is reduced further
_LEVELS = 3  # the photograph and its reductions to a half and a quarter


def photograph(name: str) -> Image.Image:
    """Return a photograph in RGB, at most `_LONGEST` pixels long. ImportError without scikit-image or scikit-learn."""
    import skimage.data
    import sklearn.datasets

    folders = Path(skimage.data.__file__).parent, Path(sklearn.datasets.__file__).parent / "images"
    path = next(folder / name for folder in folders if (folder / name).exists())
    image = Image.open(path).convert("RGB")
    image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    return image


@cache
def _pyramid(name: str) -> tuple[Tensor, ...]:
    """Return a photograph float32 [3, H, W] in [0, 1] in several sizes."""
    image = photograph(name)
    sizes = [(image.width >> level, image.height >> level) for level in range(_LEVELS)]
    return tuple(
        torch.from_numpy(np.array(image.resize(size, Image.Resampling.LANCZOS))).permute(2, 0, 1).float() / 255
        for size in sizes
    )


def windows(names: Sequence[str], count: int, side: int, random: torch.Generator) -> Tensor:
    """Return random square windows [count, 3, side, side] of photographs, at random sizes, some of them mirrored."""
    found = []
    for _ in range(count):
        levels = _pyramid(names[_below(len(names), random)])
        image = levels[_below(sum(min(level.shape[1:]) >= side for level in levels), random)]
        top, left = (_below(length - side + 1, random) for length in image.shape[1:])
        window = image[:, top : top + side, left : left + side]
        window = window.flip(-1) if _below(2, random) else window
        found.append(window.transpose(1, 2) if _below(2, random) else window)
    return torch.stack(found)


def sample(images: Tensor, places: Tensor) -> Tensor:
    """Return the pixels [B, 3, h, w] of images [B, 3, H, W] at places [B, h, w, 2], in pixels, x then y."""
    height, width = images.shape[2:]
    scaled = (places + 0.5) * 2 / torch.tensor([width, height]) - 1
    return F.grid_sample(images, scaled, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(0, 1)


def grid(height: int, width: int) -> Tensor:
    """Return the place [height, width, 2] of each pixel, x then y."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns, rows], dim=-1).float()


def shifted_frames(
    image: Image.Image, size: tuple[int, int], shift: np.ndarray, place: np.ndarray, count: int
) -> list[np.ndarray]:
    """Return frames uint8 [h, w, 3] of a photograph whose content moves by `shift` pixels (x, y) per frame.

    place: where in the photograph the first frame lies, from 0 to 1 (x, y).
    """
    height, width = size
    room = np.abs(shift) * (count - 1) + 4
    corner = room + place * (np.array(image.size) - (width, height) - 2 * room)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()[None] / 255
    frames = []
    for number in range(count):
        places = grid(height, width) + torch.from_numpy(corner - number * shift).float()
        frame = sample(pixels, places[None])[0]
        frames.append((frame.permute(1, 2, 0) * 255).round().byte().numpy())
    return frames


def _below(end: int, random: torch.Generator) -> int:
    return int(torch.randint(end, (), generator=random))
