"""Videos in records: each is cut and read like a video file, and each of its pairs or clips is one unit."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from pipeline.sources.archives.file_range import FileRange, open_range
from pipeline.sources.records.record_media import content_of, set_version, value_of
from pipeline.sources.records.record_reader import Record, RecordRequest
from pipeline.sources.source import Piece, Unit, ignore_damage
from pipeline.sources.video.video_units import VideoUnits
from pipeline.storage import Store

MARK = "@"
"""Between the id of a record and the second of a unit of its video."""


def video_of(values: Mapping[str, Any], unit: Unit, request: RecordRequest, store: Store, piece: Piece) -> VideoUnits:
    """Return the video that a record of the piece's file holds or names. Raise BadMedium if it does neither.

    The units of the video have the id of the record's unit, and the second at which they start:
    `shard-0001.tar#cats/a@12.480`. The unit gets the version of the file that the record names.
    """
    (column,) = request.medium_columns
    video = partial(VideoUnits, options=request.options, name=unit.id, mark=MARK)
    stored = value_of(values, column)
    if isinstance(stored, FileRange):
        open_stored = partial(open_range, store, piece.key, piece.version, piece.size, stored)
        return video(open_file=open_stored, size=stored.size)
    content = content_of(stored, column, "a video", store, piece.key)
    set_version(unit, content)
    if isinstance(content, bytes):
        return video(open_file=partial(io.BytesIO, content), size=len(content))
    open_file = partial(store.open, content.key, version=content.version, size=content.size)
    return video(open_file=open_file, size=content.size)


def cut_videos(
    pieces: Iterable[Piece], records: Iterable[Record], video_in: Callable[[Record], VideoUnits]
) -> tuple[list[Piece], list[Piece]]:
    """Return a piece for each part of each video, and the pieces from the first unreadable record on.

    A record without a video that can be opened is a piece of one unit.

    Args:
        pieces: pieces of a file, one after the other.
        records: all records of the pieces.
        video_in: returns the video of a record; it may raise anything that `ignore_damage` knows.
    """
    cut: list[Piece] = []
    rest = deque(pieces)
    with ignore_damage():
        for record in records:
            while len(rest) > 1 and (rest[0].end or 0) <= record.begin:
                rest.popleft()
            cut += _parts(rest[0], record, video_in)
            rest[0] = _after(rest[0], record)
        rest.clear()
    return cut, [piece for piece in rest if piece.begin != piece.end]


def _parts(piece: Piece, record: Record, video_in: Callable[[Record], VideoUnits]) -> Iterator[Piece]:
    """Yield the parts of the video in a record of a piece; what the piece leaves out is in the first."""
    is_row = piece.units is not None  # of a table, whose pieces count rows
    whole = replace(piece, begin=record.begin, end=record.end, units=1 if is_row else None, about=1, weight=None)
    parts = [whole]
    with ignore_damage():
        parts = [
            replace(
                whole,
                units=None,
                about=part.range.about,
                weight=part.weight,
                video_begin=part.range.begin,
                video_end=part.range.end,
            )
            for part in video_in(record).plan()
        ]
    if not parts:  # the video has no unit between `start` and `end`
        yield replace(whole, end=whole.begin, units=0, about=None)
    for number, part in enumerate(parts):
        yield replace(part, left_out=None) if number else part


def _after(piece: Piece, record: Record) -> Piece:
    """Return what follows a record in a piece."""
    units = None if piece.units is None or piece.end is None else piece.end - record.end
    return replace(piece, begin=record.end, units=units, left_out=None)
