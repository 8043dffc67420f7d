"""Real photographs of scikit-image that move by known shifts."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F


def photograph(name: str) -> Image.Image:
    """Return a photograph that scikit-image ships, in RGB. ImportError without it."""
    import skimage.data

    return Image.open(Path(skimage.data.__file__).parent / name).convert("RGB")


def _sample(images: Tensor, places: Tensor) -> Tensor:
    """Return the pixels [B, 3, h, w] of images [B, 3, H, W] at places [B, h, w, 2], in pixels, x then y."""
    height, width = images.shape[2:]
    scaled = (places + 0.5) * 2 / torch.tensor([width, height]) - 1
    return F.grid_sample(images, scaled, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(0, 1)


def _grid(height: int, width: int) -> Tensor:
    """Return the place [height, width, 2] of each pixel, x then y."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns, rows], dim=-1).float()


def shifted_frames(
    image: Image.Image, size: tuple[int, int], shift: np.ndarray, place: np.ndarray, count: int
) -> tuple[list[np.ndarray], tuple[float, float]]:
    """Return frames uint8 [h, w, 3] of a photograph whose content moves by `shift` pixels (x, y) per frame.

    place: where in the photograph the first frame lies, from 0 to 1 (x, y).
    """
    height, width = size
    room = np.abs(shift) * (count - 1) + 4
    corner = room + place * (np.array(image.size) - (width, height) - 2 * room)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()[None] / 255
    frames = []
    for number in range(count):
        places = _grid(height, width) + torch.from_numpy(corner - number * shift).float()
        frame = _sample(pixels, places[None])[0]
        frames.append((frame.permute(1, 2, 0) * 255).round().byte().numpy())
    return frames, (float(shift[0]), float(shift[1]))
