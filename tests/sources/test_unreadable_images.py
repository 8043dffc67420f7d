"""Image files that are damaged, too large or no images: refused with the reason."""

from __future__ import annotations

import contextlib
import io
import random
import struct

import numpy as np
import pytest
import tifffile
from PIL import EpsImagePlugin, Image

from pipeline.media import BadMedium
from pipeline.sources.images.image_decoding import decode_image
from tests.sources.image_files import encoded, raw_png, reason

# Imported while pytest collects, the module's own filter ends with the collection.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


@pytest.mark.parametrize(
    "form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "progressive", "tiff_lzw"]
)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])
def test_truncated_files_are_refused(photo: Image.Image, form: str, part: float) -> None:
    options = {"progressive": {"progressive": True}, "tiff_lzw": {"compression": "tiff_lzw"}}.get(form, {})
    data = encoded(photo, {"progressive": "JPEG", "tiff_lzw": "TIFF"}.get(form, form), **options)
    assert "truncated" in reason(data[: int(len(data) * part)])


def test_a_truncated_jpeg_is_called_truncated(photo: Image.Image) -> None:
    assert reason(encoded(photo, "JPEG")[:-300]).startswith("truncated JPEG: image file is truncated")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file (0 bytes)"),
        (b"\n<!DOCTYPE html><html>404</html>", "an HTML file"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "a Git LFS pointer file"),
        (b"%PDF-1.7", "a PDF file"),
        (b"id,label\n1,cat\n", "a text file"),
        (bytes(range(1, 40)), "a file that starts with 01 02 03 04 05 06 07 08"),
    ],
)
def test_files_that_are_not_images_are_described(data: bytes, words: str) -> None:
    assert reason(data).startswith(f"{words} is not an image of a supported format (JPEG, PNG, WebP, GIF")


@pytest.mark.parametrize(
    ("values", "photometric", "words"),
    [
        (np.zeros((8, 9, 3), np.float32), "rgb", "3 bands of 32-bit floats"),
        (np.zeros((8, 9, 4), np.uint16), "minisblack", "4 bands of 16-bit unsigned integers"),
        (np.zeros((8, 9, 7), np.int16), "minisblack", "7 bands of 16-bit signed integers"),
        (np.zeros((8, 9), np.complex64), "minisblack", "1 band of 64-bit complex floats"),
    ],
)
@pytest.mark.parametrize("big", [False, True])
def test_a_sound_tiff_that_is_not_read_is_not_called_damaged(
    values: np.ndarray, photometric: str, words: str, big: bool
) -> None:
    file = io.BytesIO()
    tifffile.imwrite(
        file, values, photometric=photometric, planarconfig="contig" if values.ndim > 2 else None, bigtiff=big
    )
    assert reason(file.getvalue()).startswith(f"a TIFF file of {words} is not supported: convert it to")


def test_a_sound_tiff_of_another_compression_is_not_called_damaged(photo: Image.Image) -> None:
    data = encoded(photo, "TIFF", compression="tiff_lzw")
    lzw, jpeg2000 = (struct.pack("<HHIHH", 259, 3, 1, method, 0) for method in (5, 34712))
    words = "a TIFF file of 3 bands of 8-bit unsigned integers, compressed by method 34712, is not supported"
    assert lzw in data
    assert reason(data.replace(lzw, jpeg2000)).startswith(words)


def test_postscript_never_reaches_ghostscript(photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("Ghostscript was started"))
    assert reason(encoded(photo, "EPS")).startswith("a PostScript (EPS) file")


@pytest.mark.parametrize("side", [10_000, 20_000, 60_000])  # 100 megapixels, where Pillow only warns, 400 and 3,600
def test_decompression_bombs_are_refused_before_they_are_decoded(side: int) -> None:
    header_alone = raw_png(side, side, color=2, depth=8, rows=b"")  # decoded, it would be found truncated
    assert str(side * side)[:3] in reason(header_alone).replace(",", "")
    assert "truncated" not in reason(header_alone)


def test_a_bomb_of_few_bytes_and_many_buffers_is_refused() -> None:
    side = 6_000  # 36 megapixels: fine as PNG, 612 MB as WebP
    data = bytearray(encoded(Image.new("RGB", (64, 64)), "WEBP", lossless=True))
    rest = struct.unpack("<I", data[21:25])[0] & 0xF0000000
    data[21:25] = struct.pack("<I", (side - 1) | (side - 1) << 14 | rest)
    assert reason(bytes(data)).startswith("6000 by 6000 pixels are too many: 36.0 megapixels, at most 31.6")


def test_mutated_files_give_an_image_or_a_reason(photo: Image.Image) -> None:
    rng = random.Random(0)
    small = photo.resize((40, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    originals = [encoded(small, form) for form in ("PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000")]
    originals += [encoded(small, "JPEG", exif=exif), encoded(small.convert("P"), "PNG", transparency=3)]
    for _ in range(600):
        data = bytearray(rng.choice(originals))
        for _ in range(rng.choice((1, 5, 30))):
            data[rng.randrange(min(len(data), rng.choice((64, len(data)))))] = rng.randrange(256)
        with contextlib.suppress(BadMedium):
            pixels = decode_image(bytes(data))
            assert (pixels.dtype, pixels.shape[2]) == (np.uint8, 3)
