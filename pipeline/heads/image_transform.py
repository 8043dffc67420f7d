"""Image preprocessing: crop and resize on the CPU in uint8, rescale and normalise on the device.

Bit-for-bit equal to the PIL backend of transformers' Perceiver image processor. Between the two halves an image has one
byte per channel, a quarter of float32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np

from pipeline.heads.head import JSON, DType, Tensor


@dataclass(frozen=True, kw_only=True)
class ImageTransform:
    """The steps of a preprocessor config, see `pipeline.heads.image_config.read_transform`. None skips a step.

    Attributes:
        crop: height and width of the centre crop, as fractions of the image's shorter side.
        size: {"height", "width"} in pixels, or one of transformers' sizes that keep the aspect ratio.
        resample: Pillow's number of the resizing filter.
        rescale: factor for the pixels.
        mean, std: one number per channel.
    """

    crop: tuple[float, float] | None
    size: Mapping[str, int] | None
    resample: int
    rescale: float | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    @property
    def unit_bytes(self) -> int:
        """Bytes of a cropped and resized image; an estimate from sides of 1024 pixels if images keep their own size."""
        size = self.size or {}
        side = size.get("shortest_edge", 1024)
        return 3 * size.get("height", side) * size.get("width", side)

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """Every step, in types that JSON preserves."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Crop and resize an RGB image uint8 [H, W, 3] to uint8 [3, height, width].

        Raise ValueError if the crop is empty.
        """
        if self.crop is not None:
            side = min(image.shape[:2])
            image = center_crop(image, int(self.crop[0] * side), int(self.crop[1] * side))
        if self.size is not None:
            image = _resize(image, _target_size(image.shape[0], image.shape[1], self.size), self.resample)
        if image.size == 0:
            raise ValueError("the centre crop of the image is empty")
        return np.ascontiguousarray(image.transpose(2, 0, 1))

    def normalise(self, pixels: Tensor, dtype: DType) -> Tensor:
        """Rescale and normalise uint8 [B, 3, H, W] in float32 and convert it to `dtype`."""
        values = pixels
        if self.rescale is not None:  # in float64, as transformers does, so that a byte times 1/255 is rounded once
            values = values.double().mul_(self.rescale).float()
        if self.mean is not None and self.std is not None:
            values = values.float()
            mean, std = (values.new_tensor(channel).view(1, 3, 1, 1) for channel in (self.mean, self.std))
            values = (values - mean) / std
        return values.to(dtype)


def center_crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cut the centre [height, width, C] of an image [H, W, C], padded with zeros if the image is smaller."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    if top >= 0 and left >= 0:
        return image[top : top + height, left : left + width]
    # transformers' rounding: an odd padding is larger above and to the left, an odd crop margin below and to the right.
    padded = np.zeros((max(height, image.shape[0]), max(width, image.shape[1]), image.shape[2]), image.dtype)
    above, before = ceil((padded.shape[0] - image.shape[0]) / 2), ceil((padded.shape[1] - image.shape[1]) / 2)
    padded[above : above + image.shape[0], before : before + image.shape[1]] = image
    top, left = top + above, left + before
    return padded[max(0, top) : top + height, max(0, left) : left + width]


def _resize(image: np.ndarray, size: tuple[int, int], resample: int) -> np.ndarray:
    """Resize to (height, width) with Pillow. An empty crop, for example of an image 1 pixel high, gives black."""
    from PIL import Image

    if image.size == 0:
        return np.zeros((*size, image.shape[2]), image.dtype)
    resizable = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(resizable.resize((size[1], size[0]), resample=Image.Resampling(resample)))


def _target_size(height: int, width: int, size: Mapping[str, int]) -> tuple[int, int]:
    """Return the (height, width) to resize to, rounded as transformers does for each kind of size."""
    if "height" in size:
        return size["height"], size["width"]
    if "max_height" in size:
        scale = min(size["max_height"] / height, size["max_width"] / width)
        return int(height * scale), int(width * scale)
    short, long = min(height, width), max(height, width)
    exact, longest = float(size["shortest_edge"]), size.get("longest_edge")
    if longest is not None and long / short * exact > longest:  # the longer side limits the scale
        exact = longest * short / long
    new_short = round(exact)
    new_long = long if longest is not None and short == new_short else int(exact * long / short)
    return (new_short, new_long) if height <= width else (new_long, new_short)
