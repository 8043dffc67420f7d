"""From the bytes of an image file to an upright RGB image without alpha. The content decides the format, not the name.

- Transparency is dropped, or composited on white, see `Transparency`.
- EXIF orientation is applied. Of several frames or pages the first is taken, of HEIC the primary image. Colour
  profiles are not applied.
- More than 8 bits per channel are scaled to 0…255, never clipped: 16 bits by their whole range; floats and 32-bit
  integers by the smallest of [0, 1] (floats only), [0, 255] and [0, 65535] that holds every pixel, else from the
  smallest value to the largest.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.formatting import counted
from pipeline.media import BadMedium
from pipeline.sources.images.image_formats import missing_plugin, readable_formats, readable_names, usual_name
from pipeline.sources.images.image_pixels import Transparency, upright_rgb
from pipeline.sources.images.jxl_header import jxl_size
from pipeline.sources.images.tiff_layout import describe_tiff
from pipeline.sources.listing.file_signatures import describe, image_format

MAX_DECODED_BYTES = 2**29
"""Memory that decoding one image may take: 0.5 GiB. In megapixels: 76 for JPEG, PNG, GIF, BMP, PPM; 67 for TIFF;
51 for progressive JPEG; 31 for WebP; 26 for AVIF, HEIC and JPEG 2000. A bomb of 34 bytes can declare 268."""

# Bytes per pixel while decoding, measured: Pillow keeps 4 of RGB, the image is 3 more; the rest are the decoder's own.
_PIXEL_BYTES = {"TIFF": 8.0, "WEBP": 17.0, "AVIF": 20.0, "JPEG2000": 20.0, "HEIF": 20.0, "JXL": 20.0}
_DEFAULT_PIXEL_BYTES = 7.0
_PROGRESSIVE_PIXEL_BYTES = 10.5  # all coefficients are kept until the last scan

# A damaged EXIF block must not print a line per file. Appended, so that a user's own filter wins; set once and not
# around each call, because filters belong to the process and load runs in threads.
warnings.filterwarnings("ignore", module=r"PIL\.", append=True)


class DecodedImage(NamedTuple):
    """An upright image uint8 [H, W, 3] in RGB, and of its file the number of frames and Pillow's name of the format."""

    pixels: np.ndarray
    frames: int | None
    format: str

    @property
    def is_sequence(self) -> bool:
        """Whether its file holds frames that follow one another, and not several images as files of cameras do."""
        return (self.frames or 1) > 1 and self.format not in ("MPO", "HEIF")


def decode_image(data: bytes, transparency: Transparency = "drop") -> np.ndarray:
    """Return uint8 [H, W, 3] RGB of an image file's content. Raise BadMedium if it cannot be decoded."""
    return decode_first_frame(data, transparency).pixels


def decode_first_frame(data: bytes, transparency: Transparency = "drop") -> DecodedImage:
    """Return the first frame and the number of frames. Raise BadMedium if it cannot be decoded."""
    with open_image(data) as image:
        check_size(image)
        return DecodedImage(upright_rgb(image, transparency), count_frames(image), str(image.format))


@contextmanager
def open_image(data: bytes) -> Iterator[Image.Image]:
    """Open an image file's content; raise BadMedium for whatever is raised, here or in the block."""
    name = image_format(data) or "image"
    try:
        if name == "JPEG XL":  # the plugin decodes when it opens
            _check_pixels(*jxl_size(data), "JXL", _PIXEL_BYTES["JXL"])
        with Image.open(io.BytesIO(data), formats=readable_formats()) as image:
            name = usual_name(str(image.format))
            yield image
    except BadMedium:
        raise
    except Image.DecompressionBombError as error:
        raise BadMedium(f"too large: {error}") from error
    except UnidentifiedImageError as error:
        raise BadMedium(_why_unidentified(data)) from error
    except Exception as error:  # decoders raise anything: IndexError, UnicodeDecodeError, MemoryError, EOFError
        raise BadMedium(f"{_fault(error)} {name}: {error or type(error).__name__}") from error


def check_size(image: Image.Image) -> None:
    """Raise BadMedium if an image would take more than MAX_DECODED_BYTES. Pillow only warns at 89 megapixels."""
    pixel_bytes = _PIXEL_BYTES.get(str(image.format), _DEFAULT_PIXEL_BYTES)
    if image.info.get("progressive"):
        pixel_bytes = max(pixel_bytes, _PROGRESSIVE_PIXEL_BYTES)
    _check_pixels(image.width, image.height, str(image.format), pixel_bytes)


def _check_pixels(width: int, height: int, name: str, pixel_bytes: float) -> None:
    """Raise BadMedium if an image of this size, in the format of this name of Pillow's, takes too much memory."""
    limit, pixels = MAX_DECODED_BYTES / pixel_bytes, width * height
    if pixels > limit:
        raise BadMedium(
            f"{width} by {height} pixels are too many: {pixels / 1e6:.1f} megapixels, at most {limit / 1e6:.1f} are "
            f"decoded from {usual_name(name)} (possibly a decompression bomb)"
        )


def count_frames(image: Image.Image) -> int | None:
    """Return the number of frames or pages; None if the file is damaged after the first, or its decoder cannot tell.

    Reduced copies of a TIFF page do not count.
    """
    if image.format == "JXL":  # the plugin reads the first frame only and always says 1
        return None
    try:
        count = int(getattr(image, "n_frames", 1))
        return len(tiff_pages(image, count)) if image.format == "TIFF" and count > 1 else count
    except Exception:  # noqa: BLE001  decoders raise anything; the first frame has been decoded
        return None


def tiff_pages(image: Image.Image, count: int) -> list[int]:
    """Return the numbers of the pages among the `count` images of a TIFF file: not those that are reduced copies."""
    pages = []
    for number in range(count):
        image.seek(number)
        if not int(image.tag_v2.get(254, 0)) & 1:  # type: ignore[attr-defined]  # NewSubfileType
            pages.append(number)
    return pages


def _why_unidentified(data: bytes) -> str:
    """Return why a file is not read that none of the readable formats takes for its own."""
    if (name := image_format(data)) is None:
        return f"{describe(data)} is not an image of a supported format ({readable_names()})"
    if name == "TIFF" and (layout := describe_tiff(data)) is not None:
        return f"a TIFF file of {layout} is not supported: convert it to 1, 3 or 4 bands of 8 bits, compressed by LZW"
    return (
        missing_plugin(name) or f"truncated or damaged {name}: its header cannot be read ({counted(len(data), 'byte')})"
    )


def _fault(error: Exception) -> str:
    """Return how to describe an image that a decoder failed on."""
    text = str(error).lower()
    if isinstance(error, EOFError) or "truncated" in text or "not enough" in text:
        return "truncated"
    return "not enough memory for" if isinstance(error, MemoryError) else "truncated or damaged"
