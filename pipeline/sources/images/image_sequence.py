"""Image files with several frames: animated GIF, WebP and PNG, and TIFF with several pages."""

import io
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

import numpy as np
from PIL import Image

from pipeline.sources.images.image_decoding import check_size, open_image, tiff_pages
from pipeline.sources.images.image_pixels import Transparency, upright_rgb
from pipeline.sources.listing.content_format import ContentEntry
from pipeline.sources.source import ignore_damage
from pipeline.storage import Entry, Store

_EXTENSIONS = (".gif", ".webp", ".png", ".apng", ".tif", ".tiff")
_THREADS = 16  # files whose beginning is read at a time: it waits for the store
_AHEAD = 256


@dataclass(frozen=True, kw_only=True)
class SequenceEntry(Entry):
    """A listed image file with several frames."""


def mark_sequences(store: Store, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the entries in order, those of files with several frames as a `SequenceEntry`.

    Up to a megabyte of each file is read; nothing is decoded.
    """

    def marked(entry: Entry) -> Entry:
        is_image = isinstance(entry, ContentEntry) and entry.input_format == "images"
        if not (is_image or entry.key.lower().endswith(_EXTENSIONS)) or not _has_several_frames(store, entry):
            return entry
        return SequenceEntry(key=entry.key, size=entry.size, version=entry.version, kept=entry.kept)

    entries = iter(entries)
    with ThreadPoolExecutor(_THREADS) as pool:
        while ahead := list(islice(entries, _AHEAD)):
            yield from pool.map(marked, ahead)


def _has_several_frames(store: Store, entry: Entry) -> bool:
    """Return whether a file declares a second frame. Of damaged files it is not known: their decoder reports them."""
    several = False
    with ignore_damage(), store.open(entry.key, size=entry.size) as file:  # listed just now, so in this version
        several = declares_several_frames(file)
    return several  # noqa: RET504 - False after damage


def declares_several_frames(file: BinaryIO) -> bool:
    """Return whether an image file has a second frame, by its structure alone. Raise anything for a damaged file."""
    start = file.read(32)
    file.seek(0)
    if start[8:16] == b"WEBPVP8X":
        return bool(start[20] & 2)  # its flag for animations
    if start.startswith(b"\x89PNG"):
        return _declares_animation(file)
    if start.startswith((b"GIF8", b"II", b"MM")):  # these are parsed in Python
        with Image.open(file, formats=("GIF", "TIFF")) as image:
            count = int(getattr(image, "is_animated", False)) + 1
            return count > 1 and (image.format == "GIF" or len(tiff_pages(image, count)) > 1)
    return False


def _declares_animation(png: BinaryIO) -> bool:
    """Return whether a PNG has the chunk that announces an animation, which comes before the pixels."""
    png.seek(8)
    while True:
        size, kind = struct.unpack(">I4s", png.read(8))
        if kind in (b"acTL", b"IDAT"):
            return bool(kind == b"acTL")
        png.seek(size + 4, io.SEEK_CUR)


def sequence_size(data: bytes) -> tuple[int, int]:
    """Return the number of frames of a file and the decoded bytes of its first frame. Raise BadMedium if damaged."""
    with open_image(data) as image:
        check_size(image)
        return len(_frame_numbers(image)), 3 * image.width * image.height


def read_frames(data: bytes, begin: int, transparency: Transparency) -> Iterator[np.ndarray]:
    """Yield the frames from number `begin` on as a viewer shows them, uint8 [H, W, 3]. Raise BadMedium if damaged."""
    with open_image(data) as image:
        for number in _frame_numbers(image)[begin:]:
            image.seek(number)
            check_size(image)
            yield upright_rgb(image, transparency)


def _frame_numbers(image: Image.Image) -> list[int]:
    """Return the numbers of the frames, for `seek`."""
    count = int(getattr(image, "n_frames", 1))
    if image.format == "TIFF":
        return tiff_pages(image, count)
    # The image that programs show which do not know animations is not a frame of a PNG's animation.
    return list(range(int(bool(image.info.get("default_image"))), count))
