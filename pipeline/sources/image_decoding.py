"""From the bytes of an image file to an upright RGB image without alpha. The content decides the format, not the name.

- Alpha (RGBA, LA, a transparent colour or palette entry) is composited on white.
- EXIF orientation is applied. Of an animation the first frame is taken. Colour profiles are not applied.
- More than 8 bits per channel are scaled to 0…255, never clipped: 16 bits by their whole range; floats and 32-bit
  integers by the smallest of [0, 1] (floats only), [0, 255] and [0, 65535] that holds every pixel, else from the
  smallest value to the largest.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.media import BadMedium
from pipeline.sources.file_signatures import describe, image_format

MAX_DECODED_BYTES = 2**29
"""Memory that decoding one image may take: 0.5 GiB. In megapixels: 76 for JPEG, PNG, GIF, BMP, PPM; 67 for TIFF;
51 for progressive JPEG; 31 for WebP; 26 for AVIF and JPEG 2000. A bomb of 34 bytes can declare 268."""

# Bytes per pixel while decoding, measured: Pillow keeps 4 of RGB, the image is 3 more; the rest are the decoder's own.
_PIXEL_BYTES = {"TIFF": 8.0, "WEBP": 17.0, "AVIF": 20.0, "JPEG2000": 20.0}
_DEFAULT_PIXEL_BYTES = 7.0
_PROGRESSIVE_PIXEL_BYTES = 10.5  # all coefficients are kept until the last scan

# Supported formats, by Pillow's names. Pillow would try forty more; EPS would start Ghostscript.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "PPM", "AVIF", "JPEG2000")
_USUAL_NAMES = {"MPO": "JPEG", "WEBP": "WebP", "DIB": "BMP", "JPEG2000": "JPEG 2000"}  # if they differ
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

# A damaged EXIF block must not print a line per file. Appended, so that a user's own filter wins; set once and not
# around each call, because filters belong to the process and load runs in threads.
warnings.filterwarnings("ignore", module=r"PIL\.", append=True)


def decode_image(data: bytes) -> np.ndarray:
    """Return uint8 [H, W, 3] RGB of an image file's content. Raise BadMedium if it cannot be decoded."""
    image, orientation = _decode(data)
    upright = _UPRIGHT.get(orientation)
    return image if upright is None else np.ascontiguousarray(upright(image))


def _decode(data: bytes) -> tuple[np.ndarray, int]:
    """Return the stored image [H, W, 3] and its EXIF orientation. The size is checked before any pixel is decoded."""
    name = image_format(data) or "image"
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            name = _USUAL_NAMES.get(str(image.format), str(image.format))
            _check_size(image, name)
            image.load()
            return _rgb(image), _orientation(image)
    except BadMedium:
        raise
    except Image.DecompressionBombError as error:
        raise BadMedium(f"too large: {error}") from error
    except UnidentifiedImageError as error:
        if image_format(data) is None:
            supported = ", ".join(dict.fromkeys(_USUAL_NAMES.get(each, each) for each in _formats()))
            raise BadMedium(f"{describe(data)} is not an image of a supported format ({supported})") from error
        raise BadMedium(f"truncated or damaged {name}: its header cannot be read ({len(data):,} bytes)") from error
    except Exception as error:  # decoders raise anything: IndexError, UnicodeDecodeError, MemoryError, EOFError
        raise BadMedium(f"{_fault(error)} {name}: {error or type(error).__name__}") from error


@cache
def _formats() -> tuple[str, ...]:
    """Return the supported formats that this build of Pillow reads."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _fault(error: Exception) -> str:
    """Return how to describe an image that a decoder failed on."""
    text = str(error).lower()
    if isinstance(error, EOFError) or "truncated" in text or "not enough" in text:
        return "truncated"
    return "not enough memory for" if isinstance(error, MemoryError) else "truncated or damaged"


def _check_size(image: Image.Image, name: str) -> None:
    """Raise BadMedium if an image would take more than MAX_DECODED_BYTES. Pillow only warns at 89 megapixels."""
    pixel_bytes = _PIXEL_BYTES.get(str(image.format), _DEFAULT_PIXEL_BYTES)
    if image.info.get("progressive"):
        pixel_bytes = max(pixel_bytes, _PROGRESSIVE_PIXEL_BYTES)
    limit, pixels = MAX_DECODED_BYTES / pixel_bytes, image.width * image.height
    if pixels > limit:
        raise BadMedium(
            f"{image.width} by {image.height} pixels are too many: {pixels / 1e6:.1f} megapixels, "
            f"at most {limit / 1e6:.1f} are decoded from {name} (possibly a decompression bomb)"
        )


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 if there is none or the EXIF block is damaged: the image itself is intact."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # noqa: BLE001  the EXIF parser raises anything as well; the image is used as it is stored
        return 1


def _rgb(image: Image.Image) -> np.ndarray:
    """Return [H, W, 3] of a loaded image, converted in strips: at once would take twice the memory."""
    convert = _converter(image)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top, strip in _strips(image):
        pixels[top : top + strip.height] = convert(strip)
    return pixels


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield full-width strips of about a megapixel, each with its first row."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _converter(image: Image.Image) -> Callable[[Image.Image], np.ndarray]:
    """Return a function that turns a strip of this image into RGB [h, W, 3] or gray [h, W, 1]."""
    if image.mode[0] in "IF":
        low, high = _range(image)
        clear = image.info.get("transparency", np.nan)  # the value that is transparent in a 16-bit PNG
        return lambda strip: np.where(np.asarray(strip) == clear, 255, _gray(np.asarray(strip), low, high))[..., None]
    if image.has_transparency_data:
        return lambda strip: np.asarray(_on_white(strip))
    return lambda strip: np.asarray(strip.convert("RGB"))


def _on_white(strip: Image.Image) -> Image.Image:
    white = Image.new("RGBA", strip.size, "white")
    white.alpha_composite(strip.convert("RGBA"))
    return white.convert("RGB")


def _range(image: Image.Image) -> tuple[float, float]:
    """Return the values that become black and white in an image of more than 8 bits, by the rule at the top."""
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
