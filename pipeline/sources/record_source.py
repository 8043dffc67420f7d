"""Sources whose files hold records: each record is one unit."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Self

import pyarrow as pa

from pipeline.media import BadMedium, MediumKind
from pipeline.sources.listing.folder_values import partition_values
from pipeline.sources.records.record_media import medium_of, uri_of
from pipeline.sources.records.record_options import record_request
from pipeline.sources.records.record_reader import Record, RecordReader, RecordRequest, as_text
from pipeline.sources.records.record_videos import MARK, cut_videos, video_of
from pipeline.sources.source import Piece, Source, SourceOptions, Unit, ignore_damage
from pipeline.sources.text.compressed import MAX_PIECES, merge_pieces
from pipeline.sources.text.text_file import text_form
from pipeline.sources.video.video_units import VideoUnits, part_id
from pipeline.storage import Denied, Entry, LeaveOut, Reason, Store, is_access_lost


@dataclass(frozen=True)
class RecordSource(Source):
    """One record format: its reader, and the request that the options make of each record.

    A record is one unit, or holds a video, whose pairs or clips are the units.

    The id of a unit is the key and the record's place in the file, or the value of the id column.

    Attributes:
        name, extensions, media, opens: see `Source`.
        reader: cuts the files and reads their records.
        request_for: makes the request from the source's name and the options.
        file_names: patterns of the file names that are read; others are left out.
        request: what is read of each record.
    """

    name: str
    extensions: frozenset[str]
    reader: RecordReader
    request_for: Callable[[str, SourceOptions], RecordRequest] = record_request
    media: frozenset[MediumKind] = frozenset({"text", "image", "frame_pair", "clip", "array"})
    file_names: tuple[str, ...] = ("*",)
    request: RecordRequest = field(default_factory=RecordRequest)
    opens: bool = True

    def configured(self, options: SourceOptions) -> Self:
        """Return this source with the options. Raise ValueError for an option that it does not support."""
        return replace(self, request=self.request_for(self.name, options))

    def has_columns(self, key: str) -> bool:
        """Return whether the records of the file have columns."""
        return self.reader.has_columns(key)

    def inputs(self, entries: Iterator[Entry], leave_out: LeaveOut) -> Iterator[Entry]:
        """Yield the entries whose file name matches `file_names`."""
        for entry in entries:
            name = entry.key.rpartition("/")[2]
            if any(fnmatchcase(name, pattern) for pattern in self.file_names):
                yield entry
            else:
                leave_out(entry.key, Reason.SAVED_DATASET_FILE)

    def kept(self, store: Store, entry: Entry) -> pa.Schema:
        """Return the schema of the kept columns of one file; empty if none is kept or a typed table is damaged."""
        return (
            self.reader.kept(store, entry, self._request_of(entry.key)) if self.request.options.keep else pa.schema([])
        )

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Yield the pieces of one file: an empty one if it has no records, one without `begin` if it is damaged."""
        pieces = [Piece.of(entry, units=1)]
        with ignore_damage():
            found = self.reader.pieces(store, entry, self._request_of(entry.key))
            pieces = list(found) or [Piece.of(entry, begin=0, end=0, units=0)]
            if len(pieces) > MAX_PIECES and text_form(store, entry.key, entry.version, entry.size).is_sequential:
                pieces = merge_pieces(pieces)
            if self.request.holds_videos and pieces[0].units != 0:
                pieces = self._cut_videos(store, entry, pieces)
        yield from pieces

    def _cut_videos(self, store: Store, entry: Entry, pieces: list[Piece]) -> list[Piece]:
        """Return the pieces of the videos in the records of the pieces.

        The file is read once, from its beginning; after damage its pieces are read one by one.
        """
        cut, rest = self._cut(store, pieces, Piece.of(entry, begin=0))
        for piece in rest:
            more, unread = self._cut(store, [piece], piece)
            cut += more + unread
        return cut or [Piece.of(entry, begin=0, end=0, units=0)]

    def _cut(self, store: Store, pieces: list[Piece], read: Piece) -> tuple[list[Piece], list[Piece]]:
        """Return what `cut_videos` does of pieces of a file whose records are in the piece `read`."""
        request = self._request_of(read.key)

        def video_in(record: Record) -> VideoUnits:
            return self._video(store, read, record, self._unit_of(store, read, record, request))

        return cut_videos(pieces, self.reader.records(store, read, request), video_in)

    def cut_again(self, store: Store, piece: Piece) -> Iterator[Piece]:
        """Yield the pieces of a video that could not be opened when it was planned, and any other piece as it is."""
        if not self.request.holds_videos or piece.begin is None or piece.video_begin is not None:
            yield piece
            return
        cut, unread = self._cut(store, [piece], piece)
        yield from cut + unread

    def ids(self, store: Store, entry: Entry) -> Iterator[str]:
        """Yield the ids of all records that have one, up to the first damage in the file."""
        if (column := self.request.identity.get("id")) is None:
            return
        options = replace(self.request.options, keep=())
        request = RecordRequest(options=options, medium_columns=(), identity={"id": column})
        with ignore_damage():
            for record in self.reader.records(store, Piece.of(entry, begin=0), request):
                if not isinstance(record.values, Exception) and not _is_null(record.values.get(column)):
                    yield _id_in(record.values, column)

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """Yield the units of the records that start in the piece.

        If the rest of the piece cannot be read, each of its planned units is an error; if their number is not known,
        one unit is the error for all.
        """
        request = self._request_of(piece.key)
        if piece.begin is None:
            unit = self._unit(store, piece, piece.key)
            unit.kept = {name: request.outside.get(name) for name in request.options.keep}
            unit.decoder = partial(self.reader.read_whole, store, piece, request)
            yield unit
            return
        if piece.begin == piece.end:
            return
        given, place, error = 0, str(piece.begin), None
        try:
            for record in self.reader.records(store, piece, request):
                yield from self._units_of(store, piece, record, request)
                given, place = given + 1, record.next_place
        except Exception as fault:  # stores and decoders raise anything: it costs the piece's rest
            if is_access_lost(fault):
                raise
            error = fault if isinstance(fault, Denied) else self.reader.explain(fault, place)
        if piece.units is not None:
            error = error or BadMedium("the file has fewer rows than it declares")
            for row in range(piece.begin + given, piece.end or 0):
                yield self._unit(store, piece, f"{piece.key}#{row}", error)
        elif error is not None:
            yield self._unit(store, piece, self._part_id(piece, f"{piece.key}#{place}"), error)

    def _request_of(self, key: str) -> RecordRequest:
        """Return the request of one file, with the values that its folders have for kept columns."""
        outside = {name: value for name, value in partition_values(key).items() if name in self.request.options.keep}
        return replace(self.request, outside=outside) if outside else self.request

    def _unit(self, store: Store, piece: Piece, name: str, error: Exception | None = None) -> Unit:
        return Unit(id=name, uri=store.uri_of(piece.key), version=piece.version, error=error)

    def _units_of(self, store: Store, piece: Piece, record: Record, request: RecordRequest) -> Iterator[Unit]:
        """Yield the unit of one record, or the units of the part of its video that the piece holds."""
        unit = self._unit_of(store, piece, record, request)
        if not self.request.holds_videos:
            yield unit
            return
        unit.decoder = None
        try:
            video = self._video(store, piece, record, unit)
        except Exception as error:  # stores raise anything: it costs this record only
            if is_access_lost(error):
                raise
            unit.id, unit.error = self._part_id(piece, unit.id), error
            yield unit
            return
        for name, medium, fault in video.read(piece.video_begin, piece.video_end):
            yield replace(unit, id=name, kept=dict(unit.kept), medium=medium, error=fault)

    def _part_id(self, piece: Piece, name: str) -> str:
        """Return the id of what stands for all units of a piece: `name`, or that and a second for a part of a video."""
        begin = piece.video_begin
        return part_id(name, MARK, begin, self.request.options) if begin else name

    def _video(self, store: Store, piece: Piece, record: Record, unit: Unit) -> VideoUnits:
        """Return the video of a record, whose unit has the record's id. Raise why there is none."""
        if unit.error is not None:
            raise unit.error
        assert not isinstance(record.values, Exception)
        return video_of(record.values, unit, self.request, store, piece)

    def _unit_of(self, store: Store, piece: Piece, record: Record, request: RecordRequest) -> Unit:
        """Return the unit of one record, to be decoded later, or with its error."""
        unit, values = self._unit(store, piece, f"{piece.key}#{record.place}"), record.values
        if isinstance(values, Exception):
            unit.error = values
            return unit
        unit.uri = uri_of(values, request, store, piece.key)
        try:
            for attribute, column in request.identity.items():
                setattr(unit, attribute, _id_in(values, column))
            kept = {name: values.get(name, request.outside.get(name)) for name in request.options.keep}
            unit.kept = {name: self.reader.kept_value(value) for name, value in kept.items()}
        except Exception as error:  # noqa: BLE001  no id, or a value that cannot be text: it costs this unit only
            unit.error = error
        unit.decoder = partial(medium_of, values, record.number, request, store, piece.key, unit)
        return unit


def _id_in(values: Mapping[str, Any], column: str) -> str:
    """Return the id in a column as text. Raise BadMedium if it is null."""
    if _is_null(value := values.get(column)):
        raise BadMedium(f"column {column!r} holds no id")
    return as_text(value if isinstance(value, bytes) else str(value)) or ""


def _is_null(value: Any) -> bool:
    """Return whether a value is null, or empty, which is how CSV writes null."""
    return value is None or value in ("", b"")
