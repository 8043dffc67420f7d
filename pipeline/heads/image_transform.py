"""From a picture to pixels: crop and resize on the CPU in uint8, rescale and normalise on the device.

Bit for bit what transformers' PIL backend of the Perceiver image processor does. Split in two because what travels
between the two is then a byte a channel, a quarter of float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from pipeline.heads.head import JSON

if TYPE_CHECKING:  # load tasks crop and resize without torch
    import torch

_UNKNOWN_SIDE = 1024  # pixels, where the config resizes to no fixed size: only an estimate hangs on it


@dataclass(frozen=True, kw_only=True)
class ImageTransform:
    """The steps of one preprocessor config, read by `pipeline.heads.image_config.read_transform`. None leaves one out.

    crop: height and width of the centre crop, as shares of the picture's shorter side.
    size: {"height", "width"} in pixels, or one of transformers' sizes that keep the aspect ratio.
    resample: Pillow's number of the filter. rescale: the factor. mean, std: one number a channel.
    """

    crop: tuple[float, float] | None
    size: Mapping[str, int] | None
    resample: int
    rescale: float | None
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None

    @property
    def unit_bytes(self) -> int:
        """Bytes of one cropped and resized picture; an estimate where pictures keep their own size."""
        size = self.size or {}
        side = size.get("shortest_edge", _UNKNOWN_SIDE)
        return 3 * size.get("height", side) * size.get("width", side)

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """Every step, in the types that json gives back."""
        return {
            "crop": None if self.crop is None else list(self.crop),
            "size": None if self.size is None else dict(self.size),
            "resample": self.resample,
            "rescale": self.rescale,
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
        }

    def apply(self, image: np.ndarray) -> np.ndarray:
        """uint8 [3, height, width], cropped and resized, from an RGB picture uint8 [H, W, 3]."""
        if self.crop is not None:
            side = min(image.shape[:2])
            image = center_crop(image, int(self.crop[0] * side), int(self.crop[1] * side))
        if self.size is not None:
            image = _resize(image, _target(image.shape[0], image.shape[1], self.size), self.resample)
        if image.size == 0:
            raise ValueError("nothing of the picture is left after the centre crop")
        return np.ascontiguousarray(image.transpose(2, 0, 1))

    def normalise(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Inputs [B, 3, H, W] of the model's dtype, from uint8 [B, 3, H, W]; computed in float32, on its device."""
        values = pixels
        if self.rescale is not None:  # the product in float64, as transformers does: a byte times 1/255 rounds once
            values = values.double().mul_(self.rescale).float()
        if self.mean is not None and self.std is not None:
            values = values.float()
            mean, std = (values.new_tensor(channel).view(1, 3, 1, 1) for channel in (self.mean, self.std))
            values = (values - mean) / std
        return values.to(dtype)


def center_crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle [height, width, C] of a picture [H, W, C], padded with zeros where the picture is smaller."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    if top >= 0 and left >= 0:
        return image[top : top + height, left : left + width]
    # An odd rest goes above and to the left, and the crop's own odd rest below it: transformers' order of rounding.
    padded = np.zeros((max(height, image.shape[0]), max(width, image.shape[1]), image.shape[2]), image.dtype)
    above, before = ceil((padded.shape[0] - image.shape[0]) / 2), ceil((padded.shape[1] - image.shape[1]) / 2)
    padded[above : above + image.shape[0], before : before + image.shape[1]] = image
    top, left = top + above, left + before
    return padded[max(0, top) : top + height, max(0, left) : left + width]


def _resize(image: np.ndarray, size: tuple[int, int], resample: int) -> np.ndarray:
    """Resized to (height, width) by Pillow. A crop of no pixels, as a picture 1 pixel high has, gives black."""
    from PIL import Image

    if image.size == 0:
        return np.zeros((*size, image.shape[2]), image.dtype)
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((size[1], size[0]), resample=Image.Resampling(resample)))


def _target(height: int, width: int, size: Mapping[str, int]) -> tuple[int, int]:
    """(height, width) to resize to, each kind of size rounded as transformers rounds it."""
    if "height" in size:
        return size["height"], size["width"]
    if "max_height" in size:
        scale = min(size["max_height"] / height, size["max_width"] / width)
        return int(height * scale), int(width * scale)
    short, long = min(height, width), max(height, width)
    new_short, new_long = _edges(short, long, size["shortest_edge"], size.get("longest_edge"))
    return (new_short, new_long) if height <= width else (new_long, new_short)


def _edges(short: int, long: int, edge: int, longest: int | None) -> tuple[int, int]:
    """The shorter and longer side after the shorter becomes `edge`, or less so that the longer stays in `longest`."""
    exact: float = edge
    if longest is not None and long / short * edge > longest:
        exact = longest * short / long
    new_short = round(exact)
    if longest is not None and short == new_short:
        return short, long
    return new_short, int(exact * long / short)
