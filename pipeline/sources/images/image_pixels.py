"""From an opened image to an upright RGB array: transparency, orientation, and more than 8 bits per channel."""

from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

Transparency: TypeAlias = Literal["drop", "white"]
"""drop: the colors below the transparency, as `convert("RGB")` in transformers' pipelines. white: composited on it."""

_STRIP_PIXELS = 2**20

# How an image [H, W, 3] stored with an EXIF orientation is turned upright.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: np.rot90,
}


def upright_rgb(image: Image.Image, transparency: Transparency) -> np.ndarray:
    """Return uint8 [H, W, 3] of the frame of an image that was sought last, upright. Raise what its decoder raises."""
    image.load()
    pixels, upright = _rgb(image, transparency), _UPRIGHT.get(_orientation(image))
    return pixels if upright is None else np.ascontiguousarray(upright(pixels))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 if there is none or the EXIF block is damaged: the image itself is intact."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # noqa: BLE001  the EXIF parser raises anything as well; the image is used as it is stored
        return 1


def _rgb(image: Image.Image, transparency: Transparency) -> np.ndarray:
    """Return [H, W, 3] of a loaded image, converted in strips: at once would take twice the memory."""
    convert = _converter(image, transparency)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top, strip in _strips(image):
        pixels[top : top + strip.height] = convert(strip)
    return pixels


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield full-width strips of about a megapixel, each with its first row."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _converter(image: Image.Image, transparency: Transparency) -> Callable[[Image.Image], np.ndarray]:
    """Return a function that turns a strip of this image into RGB [h, W, 3] or gray [h, W, 1]."""
    if image.mode[0] in "IF":
        low, high = _range(image)
        # The value that is transparent in a 16-bit PNG; no value equals NaN.
        clear = image.info.get("transparency", np.nan) if transparency == "white" else np.nan
        return lambda strip: np.where(np.asarray(strip) == clear, 255, _gray(np.asarray(strip), low, high))[..., None]
    if transparency == "white" and image.has_transparency_data:
        return lambda strip: np.asarray(_on_white(strip))
    return lambda strip: np.asarray(strip.convert("RGB"))


def _on_white(strip: Image.Image) -> Image.Image:
    white = Image.new("RGBA", strip.size, "white")
    white.alpha_composite(strip.convert("RGBA"))
    return white.convert("RGB")


def _range(image: Image.Image) -> tuple[float, float]:
    """Return the values that become black and white in an image of more than 8 bits.

    16 bits have their whole range. Floats and 32-bit integers have the smallest of [0, 1] (floats only), [0, 255] and
    [0, 65535] that holds every pixel, else the smallest and the largest value.
    """
    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM"):  # Pillow scales PPM to 16 bits
        return 0, 65535
    low, high = np.inf, -np.inf
    for _, strip in _strips(image):
        values = np.asarray(strip)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    for white in (1, 255, 65535):
        if low >= 0 and high <= white and (white > 1 or image.mode[0] == "F"):
            return 0, white
    return low, high


def _gray(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return uint8 [h, W]: `low` becomes 0, `high` 255, values outside are clipped, NaN becomes 0."""
    scaled = (values.astype(np.float64) - low) * (255 / (high - low) if high > low else 0)
    return np.nan_to_num(scaled.round(), nan=0, posinf=255, neginf=0).clip(0, 255).astype(np.uint8)
