"""The contract of a record format: how its files are cut into pieces and read as records."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.media import BadMedium, MediumKind
from pipeline.sources.source import Piece, SourceOptions
from pipeline.storage import Entry, Store

DEFAULT_COLUMN: Mapping[MediumKind, tuple[str, ...]] = {
    "text": ("text",),
    "image": ("image",),
    "array": ("inputs",),
    "frame_pair": ("video",),
    "clip": ("video",),
}
"""Columns that hold the medium if the user names none."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class Record(NamedTuple):
    """One record of a file.

    Attributes:
        place: place in the file, as the unit's id shows it: a byte offset, a row number or a sample name.
        next_place: place of the record after this one.
        values: values by column; an exception if they cannot be read.
        begin, end: range of a piece that holds this record alone.
        number: index of the record in its file, 0 if it is not known.
    """

    place: str
    next_place: str
    values: Mapping[str, Any] | Exception
    begin: int
    end: int
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class RecordRequest:
    """What a run reads of each record.

    Attributes:
        options: the source options.
        medium_columns: columns that hold the medium.
        identity: columns that replace attributes of the unit (id, uri, version), by attribute.
        outside: values of kept columns that the file's folders name, for records that lack such a column.
    """

    options: SourceOptions = field(default_factory=SourceOptions)
    medium_columns: tuple[str, ...] = DEFAULT_COLUMN["text"]
    identity: Mapping[str, str] = field(default_factory=dict, hash=False)
    outside: Mapping[str, str | None] = field(default_factory=dict, hash=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read, each once."""
        return tuple(dict.fromkeys((*self.medium_columns, *self.identity.values(), *self.options.keep)))

    @property
    def required_keep(self) -> tuple[str, ...]:
        """Kept columns that each file must have."""
        return tuple(name for name in self.options.keep if name not in self.outside)

    @property
    def required_columns(self) -> tuple[str, ...]:
        """All columns that each file must have, each once."""
        return tuple(dict.fromkeys((*self.medium_columns, *self.identity.values(), *self.required_keep)))

    def columns_in(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return the columns to read of a file with this schema."""
        return tuple(name for name in self.columns if name in self.required_columns or name in schema.names)

    @property
    def holds_videos(self) -> bool:
        """Whether a record holds a video, rather than one medium or the two images of a pair."""
        return self.options.medium in ("frame_pair", "clip") and len(self.medium_columns) == 1

    @property
    def kept_strings(self) -> pa.Schema:
        """Schema of the kept columns in formats without types: strings."""
        return pa.schema([(name, pa.string()) for name in self.options.keep])


class RecordReader(ABC):
    """Reads the files of one format. Stateless and picklable."""

    @abstractmethod
    def pieces(self, store: Store, entry: Entry, request: RecordRequest) -> Iterator[Piece]:
        """Yield the pieces of one file, none if it has no records. Raise anything if the file is damaged.

        Raise AccessError if a column is missing or has another type.
        """

    @abstractmethod
    def records(self, store: Store, piece: Piece, request: RecordRequest) -> Iterator[Record]:
        """Yield the records that start in the piece, of the planned version, with the requested columns they have."""

    @abstractmethod
    def kept(self, store: Store, entry: Entry, request: RecordRequest) -> pa.Schema:
        """Return the schema of the kept columns. Raise AccessError if the file lacks one, as far as its start shows."""

    def has_columns(self, key: str) -> bool:  # noqa: ARG002
        """Return whether the records of a file have columns."""
        return True

    def kept_value(self, value: Any) -> Any:
        """Return a value of a kept column as the output stores it."""
        return as_text(value)

    def read_whole(self, store: Store, piece: Piece, request: RecordRequest) -> Any:  # noqa: ARG002
        """Return the medium of a piece without `begin`, which is one unit. Raise why the file could not be planned."""
        with store.open(piece.key, version=piece.version, size=piece.size) as file:
            file.read(1)  # raises if it is denied or gone
        raise BadMedium("the file could not be decompressed to its end, or not be read at all, when it was planned")

    def explain(self, error: Exception, place: str) -> Exception:  # noqa: ARG002
        """Return the error to report for the rest of a piece that cannot be read from `place` on."""
        return error


def as_text(value: Any) -> str | None:
    """Return a value as valid Unicode: a string as it is, anything else as JSON. Lone surrogates become U+FFFD."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _SURROGATE.sub("\ufffd", text)
