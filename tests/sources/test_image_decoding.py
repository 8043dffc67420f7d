"""Image files, good and bad: what they become, and how errors are described."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import EpsImagePlugin, Image, ImageFile, ImageOps
from sklearn.datasets import load_sample_images
from transformers.image_utils import load_image

from pipeline.media import BadMedium
from pipeline.sources.images.image_decoding import decode_first_frame, decode_image
from pipeline.sources.images.image_formats import readable_formats

# Imported while pytest collects, the module's own filter ends with the collection.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

GRAY = np.array([[0, 64], [128, 255]], np.uint8)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A photograph of 160 × 120 pixels."""
    return Image.fromarray(skimage.data.astronaut()).resize((160, 120))


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    readable_formats()  # registers plugins
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png(width: int, height: int, *, colour: int, depth: int, rows: bytes, chunks: bytes = b"") -> bytes:
    """A PNG of rows that start with their filter byte: Pillow cannot write all that it reads."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
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


# Images that are read


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "DIB"])
def test_supported_formats_give_the_pixels_that_pillow_reads(photo: Image.Image, form: str) -> None:
    data = encoded(photo, form)
    pixels = decode_image(data)
    assert (pixels.dtype, pixels.shape, pixels.flags.c_contiguous) == (np.uint8, (120, 160, 3), True)
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_images_larger_than_a_strip_are_complete() -> None:
    for photograph in (*load_sample_images().images, skimage.data.astronaut(), skimage.data.rocket()):
        large = Image.fromarray(photograph).resize((1999, 1501))  # three strips of a megapixel, the last one partial
        np.testing.assert_array_equal(decode_image(encoded(large, "BMP")), np.asarray(large))


def test_an_image_of_one_pixel_is_read() -> None:
    assert decode_image(encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).tolist() == [[[1, 2, 3]]]


def test_jpeg_with_fifty_bytes_overwritten_is_predicted() -> None:
    data = bytearray(encoded(Image.fromarray(skimage.data.astronaut()), "JPEG"))
    middle = len(data) // 2
    data[middle : middle + 50] = bytes(50)
    assert decode_image(bytes(data)).shape == (512, 512, 3)


def test_sixteen_bit_gray_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257 * 64], [257 * 128, 65535]], np.uint16)
    for form in ("PNG", "TIFF", "PPM"):
        pixels = decode_image(encoded(Image.fromarray(values), form))
        np.testing.assert_array_equal(pixels, np.stack([GRAY] * 3, axis=-1))


def test_sixteen_bit_colour_is_scaled() -> None:
    pixels = np.array([[65535, 32896, 0]], ">u2")
    assert decode_image(png(1, 1, colour=2, depth=16, rows=b"\0" + pixels.tobytes())).tolist() == [[[255, 128, 0]]]


@pytest.mark.parametrize(
    ("values", "gray"),
    [
        (np.float32([[0, 64 / 255], [128 / 255, 1]]), GRAY),  # [0, 1] would be black
        (np.float32(GRAY), GRAY),
        (np.float32(GRAY) * 257, GRAY),
        (np.float32([[-100, 27.5], [np.nan, 155]]), [[0, 128], [0, 255]]),  # least to greatest
        (np.float32([[0, np.inf], [-np.inf, 0.5]]), [[0, 255], [0, 128]]),
        (np.float32([[np.nan, np.nan], [np.nan, np.nan]]), np.zeros((2, 2))),
        (np.int32(GRAY), GRAY),
        (np.int32([[0, 1], [1, 0]]), [[0, 1], [1, 0]]),  # no integer image means [0, 1]
        (np.int32(GRAY) * 257, GRAY),
        (np.int32([[-(2**31), 2**31 - 1], [0, 0]]), [[0, 255], [128, 128]]),
        (np.int32([[-7, -7], [-7, -7]]), np.zeros((2, 2))),
    ],
)
def test_float_and_integer_tiffs_are_scaled(values: np.ndarray, gray: Any) -> None:
    pixels = decode_image(encoded(Image.fromarray(values), "TIFF"))
    np.testing.assert_array_equal(pixels, np.stack([np.asarray(gray)] * 3, axis=-1))


def test_float_maps_are_scaled() -> None:
    data = b"Pf 2 2 -1.0\n" + np.float32([[128 / 255, 1], [0, 64 / 255]]).tobytes()  # from the bottom row upwards
    np.testing.assert_array_equal(decode_image(data), np.stack([GRAY] * 3, axis=-1))


def test_sixteen_bits_in_a_dark_image_are_not_stretched() -> None:
    assert decode_image(encoded(Image.fromarray(np.full((2, 2), 257, np.uint16)), "PNG")).max() == 1


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for form in ("JPEG", "TIFF"):
        np.testing.assert_allclose(decode_image(encoded(image, form))[0, 0].astype(int), [255, 0, 0], atol=2)


def transparent_images(photo: Image.Image) -> dict[str, bytes]:
    """Return files of every kind of transparency."""
    alpha = Image.linear_gradient("L").resize(photo.size)
    colours, gray, palette = photo.copy(), photo.convert("LA"), photo.quantize(20)
    colours.putalpha(alpha)
    gray.putalpha(alpha)
    key = chunk(b"tRNS", struct.pack(">H", 100))
    return {
        "RGBA": encoded(colours, "PNG"),
        "LA": encoded(gray, "PNG"),
        "WebP": encoded(colours, "WEBP", lossless=True, exact=True),
        "TIFF": encoded(colours, "TIFF"),
        "palette": encoded(palette, "PNG", transparency=3),
        "palette with alpha": encoded(palette, "PNG", transparency=bytes(range(0, 240, 12))),
        "GIF": encoded(palette, "GIF", transparency=3),
        "transparent colour": encoded(photo, "PNG", transparency=photo.getpixel((0, 0))),
        "transparent gray": png(3, 1, colour=0, depth=8, rows=b"\0\0\x64\xff", chunks=key),
    }


@pytest.mark.parametrize("kind", ["RGBA", "LA", "WebP", "TIFF", "palette", "palette with alpha", "GIF"])
def test_transparency_is_dropped_as_in_pipelines_of_transformers(photo: Image.Image, kind: str, tmp_path: Path) -> None:
    data = transparent_images(photo)[kind]
    (tmp_path / "image").write_bytes(data)
    assert Image.open(tmp_path / "image").has_transparency_data
    np.testing.assert_array_equal(decode_image(data), np.asarray(load_image(str(tmp_path / "image"))))


@pytest.mark.parametrize("kind", ["transparent colour", "transparent gray"])
def test_a_transparent_colour_stays_that_colour(photo: Image.Image, kind: str) -> None:
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


def test_transparent_colour_of_an_opaque_png_is_white_on_request() -> None:
    key = chunk(b"tRNS", struct.pack(">H", 100))
    pixels = on_white(png(3, 1, colour=0, depth=8, rows=b"\0\0\x64\xff", chunks=key))
    assert pixels[0, :, 0].tolist() == [0, 255, 255]


def test_one_bit_images_are_black_and_white() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    for form in ("PNG", "TIFF", "PPM"):
        assert decode_image(encoded(image, form)).tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(photo: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = Image.open(io.BytesIO(encoded(photo, "PNG", exif=exif)))
    upright = np.asarray(ImageOps.exif_transpose(turned))
    for form, options in (("PNG", {"exif": exif}), ("TIFF", {"tiffinfo": {0x0112: orientation}})):
        pixels = decode_image(encoded(photo, form, **options))
        assert pixels.flags.c_contiguous
        np.testing.assert_array_equal(pixels, upright)
    jpeg = encoded(photo, "JPEG", exif=exif)
    np.testing.assert_array_equal(decode_image(jpeg), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg)))))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_invalid_orientation_is_ignored(photo: Image.Image, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    np.testing.assert_array_equal(decode_image(encoded(photo, "PNG", exif=exif)), np.asarray(photo))


def test_an_image_with_damaged_exif_is_read(photo: Image.Image) -> None:
    for damage in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(20)):
        assert decode_image(encoded(photo, "JPEG", exif=damage)).shape == (120, 160, 3)


@pytest.mark.parametrize(("form", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
def test_animation_gives_its_first_frame(form: str, options: dict[str, Any]) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "green", "blue")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).is_animated  # type: ignore[attr-defined]
    np.testing.assert_array_equal(decode_image(data), np.asarray(frames[0]))
    assert decode_first_frame(data).frames == 3


def test_the_frames_and_pages_of_a_file_are_counted(photo: Image.Image) -> None:
    pages = {"save_all": True, "append_images": [photo.rotate(90), photo.rotate(180)]}
    for form in ("TIFF", "MPO", "AVIF"):
        first, frames, _ = decode_first_frame(encoded(photo, form, **pages))
        assert (first.shape, frames) == ((120, 160, 3), 3), form
    for form in ("JPEG", "PNG", "TIFF", "BMP", "PPM", "JPEG2000", "GIF", "WEBP", "AVIF"):
        assert decode_first_frame(encoded(photo, form)).frames == 1, form


def test_reduced_copies_of_a_tiff_page_are_not_counted(photo: Image.Image) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for scale in (1, 2, 4):  # the pyramid of a microscope
            writer.write(np.asarray(photo)[::scale, ::scale], photometric="rgb", subfiletype=int(scale > 1))
    assert Image.open(file).n_frames == 3  # type: ignore[attr-defined]
    assert decode_first_frame(file.getvalue()).frames == 1


def test_a_tiff_cut_after_its_first_page_is_read_and_its_pages_are_unknown(photo: Image.Image) -> None:
    data = encoded(photo, "TIFF", save_all=True, append_images=[photo, photo])
    pixels, frames, _ = decode_first_frame(data[: len(data) * 4 // 9])
    np.testing.assert_array_equal(pixels, np.asarray(photo))
    assert frames is None


# What does not


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
    header_alone = png(side, side, colour=2, depth=8, rows=b"")  # decoded, it would be found truncated
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


# What it must not do to others


_NOISY = """
import io, sys, warnings
from pathlib import Path
from pipeline.sources.images.image_decoding import decode_image
before = list(warnings.filters)
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        decode_image(path.read_bytes())
    except ValueError:
        pass
assert warnings.filters == before
"""


def test_nothing_is_printed_per_file(photo: Image.Image, tmp_path: Path) -> None:
    damaged = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\xff\xff\0\0\xff\xff"
    (tmp_path / "exif.jpg").write_bytes(encoded(photo, "JPEG", exif=damaged))
    (tmp_path / "bomb.png").write_bytes(png(10_000, 10_000, colour=2, depth=8, rows=b""))
    broken = bytearray(encoded(photo, "TIFF"))
    broken[-60:-40] = b"\xff" * 20
    (tmp_path / "tags.tif").write_bytes(bytes(broken))
    overwritten = bytearray(encoded(photo, "JPEG"))
    overwritten[1000:1050] = bytes(50)
    (tmp_path / "overwritten.jpg").write_bytes(bytes(overwritten))
    done = subprocess.run([sys.executable, "-c", _NOISY, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_truncated_files_stay_errors_for_other_users_of_pillow() -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_threads_decode_the_same_pixels(photo: Image.Image) -> None:
    files = [encoded(photo.rotate(7 * turn), form) for turn in range(6) for form in ("JPEG", "PNG", "GIF", "WEBP")]
    alone = [decode_image(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(alone * 4, pool.map(decode_image, files * 4), strict=True):
            np.testing.assert_array_equal(one, other)


_PEAK = """
import resource, sys
from pathlib import Path
from pipeline.sources.images.image_decoding import decode_image
decode_image(b"P5 1 1 255 \\0")
data, before = Path(sys.argv[1]).read_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode_image(data)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "side", "options"),
    [
        ("JPEG", 8700, {}),
        ("JPEG", 7100, {"progressive": True, "subsampling": 0}),
        ("PNG", 8700, {}),
        ("TIFF", 8100, {"compression": "tiff_lzw"}),
        ("WEBP", 5600, {"lossless": True}),
        ("AVIF", 5100, {"speed": 10}),
        ("JPEG2000", 5100, {}),
        ("HEIF", 5100, {}),
        ("JXL", 5100, {"effort": 1}),
    ],
)
def test_the_largest_image_stays_within_its_memory(
    tmp_path: Path, form: str, side: int, options: dict[str, Any]
) -> None:
    (tmp_path / "large").write_bytes(encoded(Image.new("RGB", (side, side)), form, **options))
    done = subprocess.run([sys.executable, "-c", _PEAK, tmp_path / "large"], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 530  # MiB
