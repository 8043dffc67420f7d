"""WebDataset tar archives: consecutive members with one name are a sample, and each sample is one unit.

Members are read as streams: nothing is extracted to disk, no link is followed and no pickle is loaded.
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.media import BadMedium, MediumKind
from pipeline.sources.compressed import open_decompressed, with_compression
from pipeline.sources.image_source import MAX_FILE_BYTES
from pipeline.sources.record_reader import DEFAULT_COLUMN, Record, RecordReader, RecordRequest
from pipeline.sources.record_source import RecordSource, record_request
from pipeline.sources.source import (
    ColumnMismatch,
    NoMediumColumn,
    Piece,
    SourceOptions,
    ignore_damage,
    missing_column,
)
from pipeline.sources.tar_samples import DuplicateMember, TarSample, read_samples, require_unique
from pipeline.storage import AccessError, Entry, Store

ARCHIVE_PIECE_BYTES = 4 << 20

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
        """Yield ranges of samples. Raise AccessError if no sample has a column or two samples have one name."""
        uri, available = store.uri_of(entry.key), set[str]()
        begin = end = count = 0
        try:
            with open_decompressed(store, entry.key) as file:
                for sample in require_unique(read_samples(file, 0, None)):
                    available.update(sample.columns)
                    count, end = count + 1, sample.end
                    if end - begin >= ARCHIVE_PIECE_BYTES or count == request.options.piece_units:
                        yield Piece.of(entry, begin=begin, end=end, about=count)
                        begin, count = end, 0
        except DuplicateMember as error:
            raise AccessError(f"{uri}: {error}") from None
        if count:
            yield Piece.of(entry, begin=begin, end=end, about=count)
        _check(uri, available, request.medium_columns, request, NoMediumColumn)
        _check(uri, available, request.required_columns, request)

    def records(self, store: Store, piece: Piece, request: RecordRequest) -> Iterator[Record]:
        """Yield the samples of the piece, reading the requested members only."""
        wanted = frozenset(member for name in request.columns for member in _members(name, request))
        with open_decompressed(store, piece.key, piece.version) as file:
            for sample in read_samples(file, piece.begin or 0, piece.end, wanted, MAX_FILE_BYTES):
                yield Record(sample.name, f"byte-{sample.end}", _values(sample, request))

    def kept(self, store: Store, entry: Entry, request: RecordRequest) -> pa.Schema:
        """Return strings. Raise AccessError if no sample of the archive has one of the columns."""
        names, available = request.required_keep, set[str]()
        with ignore_damage(), open_decompressed(store, entry.key) as file:
            for sample in read_samples(file, 0, None):
                available.update(sample.columns)
                if all(available.intersection(_members(name, request)) for name in names):
                    break
            _check(store.uri_of(entry.key), available, names, request)
        return request.kept_strings

    def read_whole(self, store: Store, piece: Piece, request: RecordRequest) -> Any:  # noqa: ARG002
        """Raise why the archive could not be planned."""
        with store.open(piece.key, version=piece.version) as file:
            file.read(1)  # raises if it is denied or gone
        raise BadMedium("the archive could not be read to its end when it was planned")


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


def _parse(content: bytes, name: str, member: str, request: RecordRequest) -> Any:
    if name in request.identity.values():
        return content.strip()
    if request.options.medium != "array" or name not in request.medium_columns:
        return content
    if member.rpartition(".")[2] == "npy":
        return np.load(io.BytesIO(content), allow_pickle=False)
    return json.loads(content)


WEBDATASET = RecordSource("webdataset", with_compression(".tar") | {".tgz"}, WebDatasetReader(), webdataset_request)
