"""Image files: each is one unit, or each two consecutive frames of a folder or of a file are."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Self

import numpy as np

from pipeline.media import BadMedium, FramePair, MediumKind
from pipeline.sources.images.frame_pairs import FramePairEntry, in_pairs, pair_of
from pipeline.sources.images.image_decoding import decode_first_frame
from pipeline.sources.images.image_pixels import Transparency
from pipeline.sources.images.image_sequence import SequenceEntry, read_frames, sequence_size
from pipeline.sources.listing.folder_values import folder_values
from pipeline.sources.source import VIDEO_TIMES, Piece, Source, SourceOptions, Unit, ignore_damage, refuse_columns
from pipeline.storage import Entry, LeaveOut, Store, is_access_lost

MAX_FILE_BYTES = 2**29
"""Largest file that is read; a larger one would fill the memory. 61 megapixels of raw RGB are 0.2 GB."""

_SEQUENCE_PIECE_BYTES = 64 << 20  # of frame pairs in a piece of a file with several frames; the file is read for each
_DECODED_BYTES = 8  # per byte of the file, typically: more for JPEG, less for PNG

_EXTENSIONS = """
    .jpg .jpeg .jpe .jfif .mpo .png .apng .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .avif .jp2 .j2k .jpf .jpx
    .avifs .heic .heif .hif .jxl
"""


@dataclass(frozen=True)
class ImageSource(Source):
    """Reads image files by their content; the name only decides whether a folder gives the file. The id is the key.

    Attributes:
        pairs: whether units are pairs of consecutive frames, of a folder, sorted by name, or of a file with several.
            The id is that of the first: the key, or the key and the number of the frame.
        transparency: whether images lose their transparency, or are composited on white.
        piece_units: maximum number of pairs of a file per piece.
        keep: kept columns, of a metadata file or of folders' names.
    """

    name: str = "images"
    extensions: frozenset[str] = frozenset(_EXTENSIONS.split())
    media: frozenset[MediumKind] = frozenset({"image", "frame_pair"})
    pairs: bool = False
    transparency: Transparency = "drop"
    piece_units: int | None = None
    opens: bool = False
    keep: tuple[str, ...] = ()

    def configured(self, options: SourceOptions) -> Self:
        """Return this source for images or pairs. Raise ValueError for options about columns or times."""
        refuse_columns(self.name, options)
        for option in VIDEO_TIMES:
            if (value := getattr(options, option)) is not None:
                raise ValueError(
                    f"{option} ({value:g}) is not supported for {self.name}: a folder of frames has no times"
                )
        pairs, rule = options.medium == "frame_pair", options.transparency
        return replace(
            self, pairs=pairs, opens=pairs, transparency=rule, piece_units=options.piece_units, keep=options.keep
        )

    def opens_file(self, entry: Entry) -> bool:
        """Return whether the frames of the file must be counted."""
        return isinstance(entry, SequenceEntry)

    def inputs(self, entries: Iterator[Entry], leave_out: LeaveOut) -> Iterator[Entry]:
        """Yield each file, or each pair of neighbours in a folder and each file with several frames."""
        return in_pairs(entries, lambda _: True, leave_out) if self.pairs else entries

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Yield the file or pair itself, one unit, without opening it; ranges of the frames of a sequence."""
        if isinstance(entry, SequenceEntry):
            yield from self._sequence_pieces(store, entry)
        elif isinstance(entry, FramePairEntry):
            weight = _DECODED_BYTES * entry.size
            yield Piece.of(entry, other=entry.other, first=entry.number, units=1, weight=weight)
        else:
            yield Piece.of(entry, units=1)

    def _sequence_pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Yield ranges of pairs, by the number of the first frame; one piece without a range if the file is damaged."""
        pieces = [Piece.of(entry, units=1)]
        with ignore_damage():
            frames, frame_bytes = sequence_size(_read_file(store, Piece.of(entry)))
            step = max(1, _SEQUENCE_PIECE_BYTES // (2 * frame_bytes))
            step = min(step, self.piece_units or step)
            ranges = ((begin, min(begin + step, frames - 1)) for begin in range(0, frames - 1, step))
            pieces = [
                Piece.of(entry, begin=begin, end=end, units=end - begin, weight=2 * frame_bytes * (end - begin))
                for begin, end in ranges
            ] or pieces
        yield from pieces

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """Yield units with uint8 [H, W, 3] or a `FramePair`: one, or those of a range of a sequence."""
        if piece.begin is not None:
            yield from self._sequence_units(store, piece, piece.begin, piece.end or 0)
            return
        kept = folder_values(piece, self.keep)
        unit = Unit(id=piece.key, uri=store.uri_of(piece.key), version=piece.version, kept=kept)
        try:
            files = _read(store, piece)
        except Exception as error:  # stores raise anything: it costs this unit only
            if is_access_lost(error):
                raise
            unit.error = error
        else:
            decode = _decode_pair if self.pairs else _decode
            unit.decoder = partial(decode, files, piece.first or 0, self.transparency, unit.kept)
        yield unit

    def _sequence_units(self, store: Store, piece: Piece, begin: int, end: int) -> Iterator[Unit]:
        """Yield the pairs of the frames `begin` to `end`. Those that cannot be read have the error."""
        number, uri = begin, store.uri_of(piece.key)
        error: Exception = BadMedium("the file has fewer frames than it declares")
        try:
            frames = read_frames(_read_file(store, piece), begin, self.transparency)
            for number, (first, second) in zip(range(begin, end), pairwise(frames), strict=False):
                pair = partial(pair_of, first, second, number=number)
                kept = folder_values(piece, self.keep)
                yield Unit(id=f"{piece.key}#{number}", uri=uri, version=piece.version, kept=kept, decoder=pair)
                number += 1
        except Exception as fault:  # stores and decoders raise anything: the rest of the piece is lost
            if is_access_lost(fault):
                raise
            error = fault
        for missing in range(number, end):
            yield Unit(id=f"{piece.key}#{missing}", uri=uri, version=piece.version, error=error)


def _read(store: Store, piece: Piece) -> list[bytes]:
    """Return the content of the file, or of both files of a pair, in the planned versions."""
    if piece.other is None:
        return [_read_file(store, piece)]
    _check_bytes(piece)
    versions = zip((piece.key, piece.other), piece.version.split("+"), strict=True)
    return [store.read(key, version=version) for key, version in versions]


def _read_file(store: Store, piece: Piece) -> bytes:
    """Return the content of the file of a piece, in the planned version."""
    _check_bytes(piece)
    return store.read(piece.key, version=piece.version, size=piece.size)


def _check_bytes(piece: Piece) -> None:
    if piece.size > MAX_FILE_BYTES:
        raise BadMedium(f"the file has {piece.size:,} bytes, at most {MAX_FILE_BYTES:,} are read")


def _decode(files: list[bytes], _: int, transparency: Transparency, kept: dict[str, Any]) -> np.ndarray:
    """Return uint8 [H, W, 3] of an image, and add the number of its `frames` to the kept values."""
    image = decode_first_frame(files[0], transparency)
    kept.setdefault("frames", image.frames)
    return image.pixels


def _decode_pair(files: list[bytes], number: int, transparency: Transparency, _: dict[str, Any]) -> FramePair:
    """Return a pair of two files. Raise BadMedium if one of them is no single frame."""
    images = [decode_first_frame(content, transparency) for content in files]
    for image in images:
        if image.is_sequence:
            raise BadMedium(
                f"the file has {image.frames} frames, so it is not one frame of the folder: frames of animated "
                ".gif, .webp, .png and .tif files are paired with one another, but this file was not planned so. "
                "Give it one of these extensions and the run another OUTPUT, or convert it to a video"
            )
    if len(images) == 1:
        raise BadMedium("the frames of the file could not be counted when it was planned")
    return pair_of(images[0].pixels, images[1].pixels, number=number)


IMAGES = ImageSource()
