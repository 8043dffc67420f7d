"""Bytes of image files for tests, also of kinds that Pillow cannot write, and how they are decoded."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.media import BadMedium
from pipeline.sources.images.image_decoding import decode_image
from pipeline.sources.images.image_formats import readable_formats


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    readable_formats()  # registers plugins
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def raw_png(width: int, height: int, *, color: int, depth: int, rows: bytes, chunks: bytes = b"") -> bytes:
    """A PNG of rows that start with their filter byte: Pillow cannot write all that it reads."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunks + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def on_white(data: bytes) -> np.ndarray:
    return decode_image(data, "white")


def reason(data: bytes) -> str:
    with pytest.raises(BadMedium) as caught:
        decode_image(data)
    return str(caught.value)
