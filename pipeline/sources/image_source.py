"""Image files: each is one unit, its medium an RGB picture; for pairs, two frames that follow one another are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pipeline.media import BadMedium, MediumKind
from pipeline.sources.frame_pairs import FramePairEntry, in_pairs, pair_of
from pipeline.sources.image_decoding import decode_image
from pipeline.sources.source import FileSource, Piece, SourceOptions, Unit, refuse_columns
from pipeline.storage import AccessError, Entry, Store

MAX_FILE_BYTES = 2**29
"""A larger file is not read: it would fill the memory that its neighbours need. 61 megapixels of raw RGB are 0.2 GB."""

_DECODED = 8  # bytes of a picture over those of its file, about: JPEG more, PNG less

_EXTENSIONS = """
    .jpg .jpeg .jpe .jfif .mpo .png .apng .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .avif .jp2 .j2k .jpf .jpx
"""


@dataclass(frozen=True)
class ImageSource(FileSource):
    """Reads image files. What a file is, its content says; its name only says whether a folder offers it.

    pairs: units are pairs of the frames of one folder, in the order of their names; the id is that of the first.
    """

    name: str = "images"
    extensions: frozenset[str] = frozenset(_EXTENSIONS.split())
    media: frozenset[MediumKind] = frozenset({"image", "frame_pair"})
    pairs: bool = False

    def configured(self, options: SourceOptions) -> ImageSource:
        """For pictures or for pairs; image files have no columns."""
        refuse_columns(self.name, options)
        if options.fps is not None:
            raise ValueError(f"fps ({options.fps:g}) means nothing to {self.name}: a folder of frames has no times")
        return replace(self, pairs=options.medium == "frame_pair")

    def inputs(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Every file, or every pair of neighbours in a folder."""
        return in_pairs(entries, lambda _: True) if self.pairs else entries

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:  # noqa: ARG002  nothing is read for it
        """The file or pair itself, one unit."""
        if isinstance(entry, FramePairEntry):
            weight = _DECODED * entry.size
            yield Piece(**entry.planned(), first=entry.number, units=1, weight=weight)
        else:
            yield Piece(key=entry.key, version=entry.version, size=entry.size, units=1)

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """One unit: uint8 [H, W, 3] or a pair of them, or the error. The id is the key."""
        unit = Unit(id=piece.key, uri=store.uri_of(piece.key), version=piece.version)
        try:
            files = list(_read(store, piece))
        except AccessError:
            raise
        except Exception as error:  # noqa: BLE001  stores raise anything at all: it costs this unit only
            unit.error = error
        else:
            unit.decoder = partial(_decode, files, piece.first or 0)
        yield unit


def _read(store: Store, piece: Piece) -> Iterator[bytes]:
    """The file, or both of a pair, of the versions that were planned."""
    if piece.size > MAX_FILE_BYTES:
        raise BadMedium(f"file of {piece.size:,} bytes: an image file may have {MAX_FILE_BYTES:,}")
    if piece.other is None:
        yield store.read(piece.key, version=piece.version)
        return
    for key, version in zip((piece.key, piece.other), piece.version.split("+"), strict=True):
        yield store.read(key, version=version)


def _decode(files: list[bytes], number: int) -> Any:
    """uint8 [H, W, 3] of one file; of two the medium of a pair, which has that number."""
    pictures = [decode_image(data) for data in files]
    return pictures[0] if len(pictures) == 1 else pair_of(*pictures, number=number)


IMAGES = ImageSource()
