"""Images as data URIs: small enough for dozens of them in one page."""

import base64
import io

import numpy as np
from PIL import Image

_QUALITY = 82  # of JPEG, from 1 to 95: no visible loss at the size of the page


def jpeg_uri(pixels: np.ndarray) -> str:
    """Return an image uint8 [H, W, 3] as JPEG in a data URI."""
    return _uri(pixels, "jpeg", quality=_QUALITY)


def png_uri(pixels: np.ndarray) -> str:
    """Return an image uint8 [H, W, 3 or 4] as PNG in a data URI."""
    return _uri(pixels, "png", optimize=True)


def smallest_uri(pixels: np.ndarray) -> str:
    """Return a drawing uint8 [H, W, 3] as PNG, exact and small if it is smooth, or as JPEG if that is smaller."""
    return min(png_uri(pixels), jpeg_uri(pixels), key=len)


def data_uri(kind: str, data: bytes) -> str:
    """Return a file of that MIME type as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _uri(pixels: np.ndarray, kind: str, **options: int | bool) -> str:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, kind, **options)
    return data_uri(f"image/{kind}", file.getvalue())
