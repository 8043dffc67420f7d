"""From the bytes of an image file to an RGB picture: by content, upright, without alpha, one fixed rule for each case.

- Alpha (RGBA, LA, a transparent colour or palette entry) is composited on white.
- EXIF orientation is applied. Of an animation the first frame is taken. Colour profiles are not applied.
- More than 8 bits a channel are scaled to 0…255, never clipped: 16 bits by their whole range; floats and 32-bit
  integers by the least of [0, 1] (floats only), [0, 255] and [0, 65535] that holds every pixel, else from the least
  value to the greatest.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.media import BadMedium
from pipeline.sources.file_signatures import describe, image_format

MAX_DECODED_BYTES = 2**29
"""Memory that decoding one picture may take: 0.5 GiB. In megapixels: 76 for JPEG, PNG, GIF, BMP, PPM; 67 for TIFF;
51 for progressive JPEG; 31 for WebP; 26 for AVIF and JPEG 2000. A bomb of 34 bytes can ask for 268."""

# Bytes a pixel while decoding, measured: Pillow keeps 4 of RGB, the picture is 3 more; the rest are the decoder's own.
_PIXEL_BYTES = {"TIFF": 8.0, "WEBP": 17.0, "AVIF": 20.0, "JPEG2000": 20.0}
_PLAIN_PIXEL_BYTES = 7.0
_PROGRESSIVE_PIXEL_BYTES = 10.5  # all coefficients are kept until the last scan

# What users have, by Pillow's names and by theirs. Pillow would try forty more; EPS would start Ghostscript.
_FORMATS = {
    "JPEG": "JPEG",
    "MPO": "JPEG",
    "PNG": "PNG",
    "WEBP": "WebP",
    "GIF": "GIF",
    "TIFF": "TIFF",
    "BMP": "BMP",
    "DIB": "BMP",
    "PPM": "PPM",
    "AVIF": "AVIF",
    "JPEG2000": "JPEG 2000",
}
_STRIP_PIXELS = 2**20

# EXIF orientation: how the stored picture [H, W, 3] is turned upright.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda picture: np.rot90(picture, 2),
    4: np.flipud,
    5: lambda picture: picture.transpose(1, 0, 2),
    6: lambda picture: np.rot90(picture, -1),
    7: lambda picture: np.rot90(picture, 2).transpose(1, 0, 2),
    8: np.rot90,
}

# A damaged EXIF block is no reason to print a line per file. Last in line, so anyone's own filter wins; set once and
# not around each call, because filters belong to the process and load runs in threads.
warnings.filterwarnings("ignore", module=r"PIL\.", append=True)


def decode_image(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3] RGB of an image file's bytes. BadMedium says for a person why there is none."""
    picture, orientation = _decode(data)
    upright = _UPRIGHT.get(orientation)
    return picture if upright is None else np.ascontiguousarray(upright(picture))


def _decode(data: bytes) -> tuple[np.ndarray, int]:
    """The stored picture [H, W, 3] and its EXIF orientation. The size is checked before any pixel is decoded."""
    name = image_format(data) or "image"
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            name = _FORMATS[str(image.format)]
            _check_size(image, name)
            image.load()
            return _rgb(image), _orientation(image)
    except BadMedium:
        raise
    except Image.DecompressionBombError as error:
        raise BadMedium(f"too large: {error}") from error
    except UnidentifiedImageError as error:
        if image_format(data) is None:
            readable = ", ".join(dict.fromkeys(_FORMATS[each] for each in _formats()))
            raise BadMedium(f"{describe(data)} is no image of a format that is read ({readable})") from error
        raise BadMedium(f"truncated or damaged {name}: its header cannot be read ({len(data):,} bytes)") from error
    except Exception as error:  # decoders raise anything at all: IndexError, UnicodeDecodeError, MemoryError, EOFError
        raise BadMedium(f"{_fault(error)} {name}: {error or type(error).__name__}") from error


@cache
def _formats() -> tuple[str, ...]:
    """The formats of this project that this build of Pillow reads."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _fault(error: Exception) -> str:
    """The word for what a decoder stumbled over."""
    text = str(error).lower()
    cut = isinstance(error, EOFError) or "truncated" in text or "not enough" in text
    return "truncated" if cut else "no memory for" if isinstance(error, MemoryError) else "truncated or damaged"


def _check_size(image: Image.Image, name: str) -> None:
    """Refuses a picture that would take more than MAX_DECODED_BYTES. Pillow only warns at 89 megapixels."""
    each = _PIXEL_BYTES.get(str(image.format), _PLAIN_PIXEL_BYTES)
    if image.info.get("progressive"):
        each = max(each, _PROGRESSIVE_PIXEL_BYTES)
    limit, pixels = MAX_DECODED_BYTES / each, image.width * image.height
    if pixels > limit:
        raise BadMedium(
            f"{image.width} by {image.height} pixels are too many: {pixels / 1e6:.1f} megapixels, "
            f"at most {limit / 1e6:.1f} are decoded from {name} (a decompression bomb?)"
        )


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 where there is none; of a block too damaged to be read too: the picture itself is sound."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # noqa: BLE001  the parser of EXIF raises anything as well; the unit is predicted as it is stored
        return 1


def _rgb(image: Image.Image) -> np.ndarray:
    """[H, W, 3] of a loaded image, strip by strip: converted whole, it would take twice the memory."""
    convert = _converter(image)
    picture = np.empty((image.height, image.width, 3), np.uint8)
    for top, strip in _strips(image):
        picture[top : top + strip.height] = convert(strip)
    return picture


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Full-width strips of about a megapixel, with their first row."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _converter(image: Image.Image) -> Callable[[Image.Image], np.ndarray]:
    """What turns a strip of this image into RGB, or into gray [H, W, 1]."""
    if image.mode[0] in "IF":
        low, high = _range(image)
        clear = image.info.get("transparency", np.nan)  # the one value of a 16-bit PNG that is transparent
        return lambda strip: np.where(np.asarray(strip) == clear, 255, _gray(np.asarray(strip), low, high))[..., None]
    if image.has_transparency_data:
        return lambda strip: np.asarray(_on_white(strip))
    return lambda strip: np.asarray(strip.convert("RGB"))


def _on_white(strip: Image.Image) -> Image.Image:
    white = Image.new("RGBA", strip.size, "white")
    white.alpha_composite(strip.convert("RGBA"))
    return white.convert("RGB")


def _range(image: Image.Image) -> tuple[float, float]:
    """The values that become black and white, of an image with more than 8 bits: the file does not say, see above."""
    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM"):  # Pillow scales those to 16 bits
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
    """uint8 [H, W]: low 0, high 255, what lies outside at the nearer end, what is no number 0."""
    scaled = (values.astype(np.float64) - low) * (255 / (high - low) if high > low else 0)
    return np.nan_to_num(scaled.round(), nan=0, posinf=255, neginf=0).clip(0, 255).astype(np.uint8)
