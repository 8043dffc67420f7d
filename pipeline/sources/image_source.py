"""Image files: each is one unit, or each two consecutive frames of a folder are."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

from pipeline.media import BadMedium, MediumKind
from pipeline.sources.frame_pairs import FramePairEntry, in_pairs, pair_of
from pipeline.sources.image_decoding import decode_image
from pipeline.sources.source import Piece, Source, SourceOptions, Unit, refuse_columns
from pipeline.storage import AccessError, Entry, Store

MAX_FILE_BYTES = 2**29
"""Largest file that is read; a larger one would fill the memory. 61 megapixels of raw RGB are 0.2 GB."""

_DECODED_BYTES = 8  # per byte of the file, typically: more for JPEG, less for PNG

_EXTENSIONS = """
    .jpg .jpeg .jpe .jfif .mpo .png .apng .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .avif .jp2 .j2k .jpf .jpx
"""


@dataclass(frozen=True)
class ImageSource(Source):
    """Reads image files by their content; the name only decides whether a folder gives the file. The id is the key.

    Attributes:
        pairs: whether units are pairs of consecutive frames of a folder, sorted by name. The id is that of the first.
    """

    name: str = "images"
    extensions: frozenset[str] = frozenset(_EXTENSIONS.split())
    media: frozenset[MediumKind] = frozenset({"image", "frame_pair"})
    pairs: bool = False

    def configured(self, options: SourceOptions) -> Self:
        """Return this source for images or pairs. Raise ValueError for options about columns or times."""
        refuse_columns(self.name, options)
        if options.fps is not None:
            raise ValueError(f"fps ({options.fps:g}) is not supported for {self.name}: a folder of frames has no times")
        return replace(self, pairs=options.medium == "frame_pair")

    def inputs(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Yield each file, or each pair of neighbours in a folder."""
        return in_pairs(entries, lambda _: True) if self.pairs else entries

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:  # noqa: ARG002  the file is not opened
        """Yield the file or pair itself, one unit."""
        if isinstance(entry, FramePairEntry):
            weight = _DECODED_BYTES * entry.size
            yield Piece.of(entry, other=entry.other, first=entry.number, units=1, weight=weight)
        else:
            yield Piece.of(entry, units=1)

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """Yield one unit, uint8 [H, W, 3] or a `FramePair`."""
        unit = Unit(id=piece.key, uri=store.uri_of(piece.key), version=piece.version)
        try:
            files = _read(store, piece)
        except AccessError:
            raise
        except Exception as error:  # noqa: BLE001  stores raise anything: it costs this unit only
            unit.error = error
        else:
            unit.decoder = partial(_decode, files, piece.first or 0)
        yield unit


def _read(store: Store, piece: Piece) -> list[bytes]:
    """Return the content of the file, or of both files of a pair, in the planned versions."""
    if piece.size > MAX_FILE_BYTES:
        raise BadMedium(f"the file has {piece.size:,} bytes, at most {MAX_FILE_BYTES:,} are read")
    if piece.other is None:
        return [store.read(piece.key, version=piece.version)]
    versions = zip((piece.key, piece.other), piece.version.split("+"), strict=True)
    return [store.read(key, version=version) for key, version in versions]


def _decode(files: list[bytes], number: int) -> Any:
    images = [decode_image(content) for content in files]
    return images[0] if len(images) == 1 else pair_of(*images, number=number)


IMAGES = ImageSource()
