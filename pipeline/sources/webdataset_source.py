"""WebDataset tar archives: consecutive members with one name are a sample, and each sample is one unit.

Members are read as streams: nothing is extracted to disk, a link is followed to another member only, and no pickle is
loaded.
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.media import BadMedium, MediumKind
from pipeline.sources.archives.file_range import FileRange
from pipeline.sources.archives.tar_links import TarLinks
from pipeline.sources.archives.tar_samples import DuplicateMember, SampleReader, TarSample, require_unique
from pipeline.sources.image_source import MAX_FILE_BYTES
from pipeline.sources.record_source import RecordSource
from pipeline.sources.records.record_options import record_request
from pipeline.sources.records.record_reader import DEFAULT_COLUMN, Record, RecordReader, RecordRequest
from pipeline.sources.source import (
    ColumnMismatch,
    NoMediumColumn,
    Piece,
    SourceOptions,
    ignore_damage,
    missing_column,
)
from pipeline.sources.text.compressed import compression_of, decompressed, open_decompressed, with_compression
from pipeline.sources.video_source import VIDEO_EXTENSIONS
from pipeline.storage import AccessError, Entry, Store

ARCHIVE_PIECE_BYTES = 4 << 20
ARCHIVE_PIECE_LINKS = 64  # a link takes few bytes of the archive, whatever it leads to

_VIDEOS = tuple(extension.removeprefix(".") for extension in VIDEO_EXTENSIONS)
_DEFAULT_EXTENSIONS: Mapping[MediumKind, tuple[str, ...]] = {
    "image": (
        "jpg",
        "jpeg",
        "png",
        "webp",
        "avif",
        "jp2",
        "gif",
        "bmp",
        "tif",
        "tiff",
        "ppm",
        "pgm",
        "jfif",
        "heic",
        "heif",
        "jxl",
    ),
    "text": ("txt", "text"),
    "array": ("npy",),
    "frame_pair": _VIDEOS,
    "clip": _VIDEOS,
}
"""Columns that hold the medium if the user names none; the first one that a sample has is read."""

_PICKLES = ("pickle", "pkl", "pt", "pth")


def webdataset_request(source: str, options: SourceOptions) -> RecordRequest:
    """Return what the options request. Raise ValueError for columns that are pickles."""
    request = record_request(source, options)
    for name in request.columns:
        if name.lower().rpartition(".")[2] in _PICKLES:
            raise ValueError(f"column {name!r} is a pickle, which runs code when it is read: name another column")
    return request


class WebDatasetReader(RecordReader):
    """Reads samples. The place of a sample is its name, `shard-0001.tar#cats/a`.

    A column is what follows the first dot of a member's name. A compressed archive has at most 64 pieces, because each
    is read from its beginning.
    """

    def pieces(self, store: Store, entry: Entry, request: RecordRequest) -> Iterator[Piece]:
        """Yield ranges of samples, with their links and with the members that are left out.

        Raise AccessError if no sample has a column or two samples have one name.
        """
        uri, available = store.uri_of(entry.key), set[str]()
        begin = end = count = 0
        open_archive = partial(open_decompressed, store, entry.key, entry.version, entry.size)
        try:
            with open_archive() as file, TarLinks(open_archive) as links:
                reader = SampleReader(file=file, links=links)
                for sample in require_unique(reader.read(0, None)):
                    is_full = end - begin >= ARCHIVE_PIECE_BYTES or len(links.resolved) >= ARCHIVE_PIECE_LINKS
                    if count and (is_full or count == request.options.piece_units):
                        yield _piece(entry, begin, end, count, reader)
                        begin, count = end, 0
                    available.update(sample.columns)
                    count, end = count + 1, sample.end
        except DuplicateMember as error:
            raise AccessError(f"{uri}: {error}") from None
        yield _piece(entry, begin, end, count, reader)
        _check(uri, available, request.medium_columns, request, NoMediumColumn)
        _check(uri, available, request.required_columns, request)

    def records(self, store: Store, piece: Piece, request: RecordRequest) -> Iterator[Record]:
        """Yield the samples of the piece, reading the requested members only."""
        wanted = frozenset(member for name in request.columns for member in _members(name, request))
        open_archive = partial(open_decompressed, store, piece.key, piece.version, piece.size)
        known = None if piece.links is None else dict(piece.links)
        with (
            store.open(piece.key, version=piece.version, size=piece.size) as stored,
            TarLinks(open_archive, known) as links,
        ):
            compression = compression_of(stored, piece.key)
            file, ranges = decompressed(stored, compression), _videos(request) if compression is None else frozenset()
            reader = SampleReader(file=file, links=links, wanted=wanted, ranges=ranges, max_bytes=MAX_FILE_BYTES)
            for sample in reader.read(piece.begin or 0, piece.end):
                values = _values(sample, request)
                yield Record(sample.name, f"byte-{sample.end}", values, sample.begin, sample.end)

    def kept(self, store: Store, entry: Entry, request: RecordRequest) -> pa.Schema:
        """Return strings. Raise AccessError if no sample of the archive has one of the columns."""
        names, available = request.required_keep, set[str]()
        open_archive = partial(open_decompressed, store, entry.key, entry.version, entry.size)
        with ignore_damage(), open_archive() as file, TarLinks(open_archive) as links:
            for sample in SampleReader(file=file, links=links).read(0, None):
                available.update(sample.columns)
                if all(available.intersection(_members(name, request)) for name in names):
                    break
            _check(store.uri_of(entry.key), available, names, request)
        return request.kept_strings

    def read_whole(self, store: Store, piece: Piece, request: RecordRequest) -> Any:  # noqa: ARG002
        """Raise why the archive could not be planned."""
        with store.open(piece.key, version=piece.version, size=piece.size) as file:
            file.read(1)  # raises if it is denied or gone
        raise BadMedium("the archive could not be read to its end when it was planned")


def _piece(entry: Entry, begin: int, end: int, samples: int, reader: SampleReader) -> Piece:
    """Return a piece of what was read: its links, and the members that were left out since the piece before."""
    all_resolved = reader.links.resolved
    resolved = {link: all_resolved.pop(link) for link in sorted(all_resolved) if link < end}
    links = [(link, member) for link, member in resolved.items() if member is not None]
    left_out = [(name, str(reason)) for name, reason in reader.left_out]
    reader.left_out.clear()
    piece = Piece.of(entry, begin=begin, end=end, left_out=left_out or None, links=links if resolved else None)
    return replace(piece, about=samples) if samples else replace(piece, units=0)


def _check(
    uri: str,
    available: set[str],
    names: Iterable[str],
    request: RecordRequest,
    kind: type[ColumnMismatch] = ColumnMismatch,
) -> None:
    """Raise AccessError if there are samples, and none has one of the columns."""
    for name in names:
        if available and not available.intersection(_members(name, request)):
            column = " or ".join(_members(name, request))
            missing = missing_column(uri, column, sorted(available), kind)
            raise kind(f"{missing}{_dots_rule(_members(name, request), available)}")


def _dots_rule(members: Iterable[str], available: Iterable[str]) -> str:
    """Return the rule for names with dots, for a message, if a column is only missing because of it."""
    if not any(column.endswith(f".{member}") for column in available for member in members):
        return ""
    return "; the column of a member is what follows the first dot of its file name"


def _members(name: str, request: RecordRequest) -> tuple[str, ...]:
    """Return the columns of a sample that a requested name stands for: itself, or the usual ones of the medium."""
    medium = request.options.medium
    if request.options.column is None and (name,) == DEFAULT_COLUMN.get(medium):
        return _DEFAULT_EXTENSIONS[medium]
    return (name.lower(),)


def _videos(request: RecordRequest) -> frozenset[str]:
    """Return the columns of a sample that hold videos, which are read where they are in the archive."""
    return frozenset(_members(request.medium_columns[0], request)) if request.holds_videos else frozenset()


def _values(sample: TarSample, request: RecordRequest) -> dict[str, Any] | Exception:
    """Return the values of a sample by requested column, without those it lacks; an exception if one is unreadable."""
    values: dict[str, Any] = {}
    for name in request.columns:
        members = _members(name, request)
        member = next((each for each in members if each in sample.columns), None)
        if member is None:
            if name in request.medium_columns:
                found = ", ".join(sample.columns)
                reason = f"column {' or '.join(members)} not found; the sample has {found}"
                return BadMedium(f"{reason}{_dots_rule(members, sample.columns)}")
            continue
        content = sample.contents[member]
        if isinstance(content, Exception):
            return content
        try:
            values[name] = _parse(content, name, member, request)
        except Exception as error:  # noqa: BLE001  numpy's parser of headers raises anything
            bad = BadMedium(f"{member} cannot be read: {error or type(error).__name__}")
            bad.__cause__ = error  # tells a shortage of memory from damage
            return bad
    return values


def _parse(content: bytes | FileRange, name: str, member: str, request: RecordRequest) -> Any:
    if isinstance(content, FileRange):
        return content
    if name in request.identity.values():
        return content.strip()
    if request.options.medium != "array" or name not in request.medium_columns:
        return content
    if member.rpartition(".")[2] == "npy":
        return np.load(io.BytesIO(content), allow_pickle=False)
    return json.loads(content)


WEBDATASET = RecordSource("webdataset", with_compression(".tar") | {".tgz"}, WebDatasetReader(), webdataset_request)
