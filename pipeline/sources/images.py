"""Image files: each is one unit, its medium an RGB picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.sources.base import BadMedium, Piece, SourceOptions, Unit
from pipeline.sources.picture import read_picture
from pipeline.storage import AccessError, Entry, Store

MAX_FILE_BYTES = 2**29
"""A larger file is not read: it would fill the memory that its neighbours need. 61 megapixels of raw RGB are 0.2 GB."""

_EXTENSIONS = """
    .jpg .jpeg .jpe .jfif .mpo .png .apng .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .avif .jp2 .j2k .jpf .jpx
"""


@dataclass(frozen=True)
class Images:
    """Reads image files. What a file is, its content says; its name only says whether a folder offers it."""

    name: str = "images"
    extensions: frozenset[str] = frozenset(_EXTENSIONS.split())

    def configured(self, options: SourceOptions) -> Images:
        """Itself: image files have no columns."""
        if options.column is not None:
            raise ValueError(f"column ({options.column!r}) means nothing to {self.name}: an image file has no columns")
        return self

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:  # noqa: ARG002  a container's source opens it
        """The file itself, one unit."""
        yield Piece(key=entry.key, version=entry.version, size=entry.size, units=1)

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """One unit: uint8 [H, W, 3], or the error. The id is the key."""
        unit = Unit(id=piece.key, uri=store.uri_of(piece.key), version=piece.version)
        try:
            unit.medium = _picture(store, piece)
        except AccessError:
            raise
        except Exception as error:  # noqa: BLE001  decoders and stores raise anything at all: it costs this unit only
            unit.error = error
        yield unit


def _picture(store: Store, piece: Piece) -> np.ndarray:
    """uint8 [H, W, 3] of one file, of the version that was planned."""
    if piece.size > MAX_FILE_BYTES:
        raise BadMedium(f"file of {piece.size:,} bytes: an image file may have {MAX_FILE_BYTES:,}")
    return read_picture(store.read(piece.key, version=piece.version))


IMAGES = Images()
