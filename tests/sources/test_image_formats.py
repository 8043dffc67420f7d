"""HEIC and JPEG XL, which plugins of Pillow read if they are installed."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from pipeline.media import BadMedium
from pipeline.sources.image_source import IMAGES
from pipeline.sources.images import image_formats
from pipeline.sources.images.image_decoding import decode_first_frame, decode_image
from pipeline.sources.images.image_formats import readable_formats
from pipeline.sources.images.jxl_header import jxl_size

PLUGINS = {"HEIF": ("pillow_heif", "heic", "HEIC"), "JXL": ("pillow_jxl", "jxl", "JPEG XL")}


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A photograph of 160 × 120 pixels."""
    readable_formats()
    return Image.fromarray(skimage.data.astronaut()).resize((160, 120))


@pytest.fixture
def remove_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Return a function after which no plugin of Pillow seems to be installed."""

    def remove() -> None:
        for name in PLUGINS:
            monkeypatch.delitem(Image.OPEN, name)
        monkeypatch.setattr(image_formats, "find_spec", lambda _: None)
        readable_formats.cache_clear()

    yield remove
    readable_formats.cache_clear()


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", PLUGINS)
def test_plugins_give_the_pixels_that_pillow_reads(photo: Image.Image, form: str) -> None:
    data = encoded(photo, form)
    np.testing.assert_array_equal(decode_image(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_is_upright(photo: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    rotated = photo.copy()
    rotated.info["exif"] = exif.tobytes()  # the plugin then writes the rotation of HEIC as well, as cameras do
    turned = decode_image(encoded(rotated, "HEIF", quality=95)).astype(int)
    jpeg = decode_image(encoded(photo, "JPEG", exif=exif, quality=95)).astype(int)
    assert turned.shape == jpeg.shape
    assert abs(turned - jpeg).mean() < 6


def test_the_images_of_a_heic_are_counted_and_the_primary_one_is_read(photo: Image.Image) -> None:
    data = encoded(photo, "HEIF", save_all=True, append_images=[photo.rotate(180)], primary_index=1)
    pixels, frames, _ = decode_first_frame(data)
    assert frames == 2
    assert abs(pixels.astype(int) - np.asarray(photo.rotate(180))).mean() < 10


@pytest.mark.parametrize(("form", "names"), PLUGINS.items())
def test_without_the_plugin_the_reason_names_the_extra(
    photo: Image.Image, form: str, names: tuple[str, str, str], remove_plugins: Callable[[], None]
) -> None:
    data, (module, extra, usual) = encoded(photo, form), names
    remove_plugins()
    with pytest.raises(BadMedium, match=rf"^a {usual} file needs {module}.*perceiver-pipeline\[{extra}\]$"):
        decode_image(data)


@pytest.mark.parametrize("form", PLUGINS)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])
def test_truncated_files_are_refused(photo: Image.Image, form: str, part: float) -> None:
    data = encoded(photo, form)
    with pytest.raises(BadMedium, match="truncated"):
        decode_image(data[: int(len(data) * part)])


@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (160, 120), (257, 256), (1920, 1080), (5000, 3), (40, 8000)])
def test_the_size_of_a_jpeg_xl_is_read_from_its_header(size: tuple[int, int], container: bool) -> None:
    readable_formats()
    assert jxl_size(encoded(Image.new("RGB", size), "JXL", use_container=container, effort=1)) == size


def test_a_large_jpeg_xl_is_refused_before_its_plugin_decodes_it() -> None:
    header = 0 | 3 << 1 | 59_999 << 3 | 1 << 33  # 60,000 pixels high, and square
    with pytest.raises(BadMedium, match="60000 by 60000 pixels are too many: 3600"):
        decode_image(b"\xff\x0a" + header.to_bytes(10, "little"))


def test_a_large_heic_is_refused_before_it_is_decoded(photo: Image.Image) -> None:
    data = encoded(photo, "HEIF")
    size = struct.pack(">II", 160, 120)
    assert size in data
    with pytest.raises(BadMedium, match=r"6000 by 6000 pixels are too many: .* decoded from HEIC"):
        decode_image(data.replace(size, struct.pack(">II", 6_000, 6_000)))


def test_a_folder_gives_files_of_plugins() -> None:
    assert IMAGES.extensions >= {".heic", ".heif", ".hif", ".jxl", ".jfif", ".avif"}
