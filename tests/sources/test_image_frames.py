"""Which frame of an image file is read, how it is turned, and how many frames there are."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from pipeline.sources.images.image_decoding import decode_first_frame, decode_image
from tests.sources.image_files import encoded

# Imported while pytest collects, the module's own filter ends with the collection.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


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
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "green", "blue")]
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
