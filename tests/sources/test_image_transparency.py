"""Images with transparency: dropped as by transformers, or composited on white."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.image_utils import load_image

from pipeline.sources.images.image_decoding import decode_image
from tests.sources.image_files import chunk, encoded, on_white, raw_png

# Imported while pytest collects, the module's own filter ends with the collection.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


def transparent_images(photo: Image.Image) -> dict[str, bytes]:
    """Return files of every kind of transparency."""
    alpha = Image.linear_gradient("L").resize(photo.size)
    colors, gray, palette = photo.copy(), photo.convert("LA"), photo.quantize(20)
    colors.putalpha(alpha)
    gray.putalpha(alpha)
    key = chunk(b"tRNS", struct.pack(">H", 100))
    return {
        "RGBA": encoded(colors, "PNG"),
        "LA": encoded(gray, "PNG"),
        "WebP": encoded(colors, "WEBP", lossless=True, exact=True),
        "TIFF": encoded(colors, "TIFF"),
        "palette": encoded(palette, "PNG", transparency=3),
        "palette with alpha": encoded(palette, "PNG", transparency=bytes(range(0, 240, 12))),
        "GIF": encoded(palette, "GIF", transparency=3),
        "transparent color": encoded(photo, "PNG", transparency=photo.getpixel((0, 0))),
        "transparent gray": raw_png(3, 1, color=0, depth=8, rows=b"\0\0\x64\xff", chunks=key),
    }


@pytest.mark.parametrize("kind", ["RGBA", "LA", "WebP", "TIFF", "palette", "palette with alpha", "GIF"])
def test_transparency_is_dropped_as_in_pipelines_of_transformers(photo: Image.Image, kind: str, tmp_path: Path) -> None:
    data = transparent_images(photo)[kind]
    (tmp_path / "image").write_bytes(data)
    assert Image.open(tmp_path / "image").has_transparency_data
    np.testing.assert_array_equal(decode_image(data), np.asarray(load_image(str(tmp_path / "image"))))


@pytest.mark.parametrize("kind", ["transparent color", "transparent gray"])
def test_a_transparent_color_stays_that_color(photo: Image.Image, kind: str) -> None:
    data = transparent_images(photo)[kind]
    np.testing.assert_array_equal(decode_image(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_transparency_is_composited_on_white_on_request() -> None:
    half_black = on_white(encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 128)), "PNG"))
    half_gray = on_white(encoded(Image.new("LA", (1, 1), (100, 128)), "PNG"))
    clear = on_white(encoded(Image.new("RGBA", (1, 1), (9, 9, 9, 0)), "WEBP", lossless=True, exact=True))
    assert (half_black.tolist(), half_gray.tolist(), clear.tolist()) == ([[[127] * 3]], [[[177] * 3]], [[[255] * 3]])


def test_palette_with_and_without_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decode_image(encoded(image, "PNG")).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    for form, transparency in (("PNG", 0), ("GIF", 0), ("PNG", b"\x00\xff")):
        pixels = on_white(encoded(image, form, transparency=transparency))
        assert pixels.tolist() == [[[255, 255, 255], [40, 50, 60]]], form


def test_transparent_color_of_an_opaque_png_is_white_on_request() -> None:
    key = chunk(b"tRNS", struct.pack(">H", 100))
    pixels = on_white(raw_png(3, 1, color=0, depth=8, rows=b"\0\0\x64\xff", chunks=key))
    assert pixels[0, :, 0].tolist() == [0, 255, 255]
