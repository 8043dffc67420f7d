"""Image files of every kind become RGB pixels, alike in threads, within their memory, and without a word."""

from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageFile
from sklearn.datasets import load_sample_images

from pipeline.sources.images.image_decoding import decode_image
from tests.sources.image_files import encoded, raw_png

# Imported while pytest collects, the module's own filter ends with the collection.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

GRAY = np.array([[0, 64], [128, 255]], np.uint8)


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


def test_sixteen_bit_color_is_scaled() -> None:
    pixels = np.array([[65535, 32896, 0]], ">u2")
    assert decode_image(raw_png(1, 1, color=2, depth=16, rows=b"\0" + pixels.tobytes())).tolist() == [[[255, 128, 0]]]


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


def test_one_bit_images_are_black_and_white() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    for form in ("PNG", "TIFF", "PPM"):
        assert decode_image(encoded(image, form)).tolist() == [[[0] * 3, [255] * 3]]


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
    (tmp_path / "bomb.png").write_bytes(raw_png(10_000, 10_000, color=2, depth=8, rows=b""))
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
