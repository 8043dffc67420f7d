"""What all sources of records have in common: a record of any file, and its way to a unit."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa

from pipeline.media import BadMedium, MediumKind
from pipeline.sources.record_media import RecordOrigin, medium_of
from pipeline.sources.source import FileSource, Piece, SourceOptions, Unit
from pipeline.storage import AccessError, Entry, StorageError, Store

DEFAULT_COLUMN: Mapping[MediumKind, tuple[str, ...]] = {"text": ("text",), "image": ("image",), "array": ("inputs",)}
"""With the medium, where the user names none."""

_SHOWN = 20  # names of columns in an error
_SURROGATE = re.compile("[\ud800-\udfff]")


class Record(NamedTuple):
    """One record. place: in its file, as its id shows it. behind: the place where the next one would be. columns: its
    values by name, or why there are none. number: of the record in its file, 0 where that is not known."""

    place: str
    behind: str
    columns: Mapping[str, Any] | Exception
    number: int = 0


@dataclass(frozen=True)
class RecordSource(FileSource, ABC):
    """Reads records. A source of its own says how a file is cut into pieces, and what records lie in one.

    The id is the key and the record's place, or what the id column holds. Kept columns are strings: a string as it is,
    anything else as JSON text, null where the record lacks it.
    """

    name: str
    extensions: frozenset[str]
    media: frozenset[MediumKind]
    options: SourceOptions = field(default_factory=SourceOptions)

    opens = True
    damage: ClassVar[str] = "the file could not be uncompressed to its end when it was planned"

    def configured(self, options: SourceOptions) -> RecordSource:
        """With what is asked of it."""
        refuse_others(self.name, options)
        return replace(self, options=options)

    @property
    def columns(self) -> tuple[str, ...]:
        """Those with the medium."""
        return medium_columns(self.options)

    def kept(self, store: Store, entry: Entry) -> pa.Schema:
        """Strings."""
        if self.options.keep:
            self.require(store, entry, self.options.keep)
        return pa.schema([(name, pa.string()) for name in self.options.keep])

    def ids(self, store: Store, entry: Entry) -> Iterator[str]:
        """The ids of a whole file, but for records that have none. Behind a damage in the file there are none."""
        if self.options.id_column is None:
            return
        whole = Piece(key=entry.key, version=entry.version, size=entry.size, begin=0)
        try:
            for record in self.records(store, whole, (self.options.id_column,)):
                if not isinstance(record.columns, Exception):
                    value = record.columns.get(self.options.id_column)
                    if not _is_none(value):
                        yield as_id(value)
        except (AccessError, StorageError):
            raise
        except Exception:  # noqa: BLE001  decompressors raise anything: what is damaged is one unit without such an id
            return

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """The units of the records that start in the piece."""
        if piece.begin is None:
            yield self.damaged(store, piece)
            return
        at = str(piece.begin)
        try:
            for record in self.records(store, piece, self.wanted):
                yield self.unit(store, piece, record)
                at = record.behind
        except AccessError:
            raise
        except Exception as error:  # noqa: BLE001  stores and decompressors raise anything: it costs the piece's rest
            yield self.failed(store, piece, at, error)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Every column that a unit is made of, once."""
        options = self.options
        named = (*self.columns, *((options.id_column,) if options.id_column else ()), *options.keep)
        return tuple(dict.fromkeys(named))

    def unit(self, store: Store, piece: Piece, record: Record) -> Unit:
        """The unit of one record, to be decoded, or with its error."""
        columns, table = record.columns, RecordOrigin(store=store, key=piece.key, number=record.number)
        if isinstance(columns, Exception):
            return self.failed(store, piece, record.place, columns)
        name = f"{piece.key}#{record.place}"
        decode = partial(self._medium, columns, table)
        unit = Unit(id=name, uri=store.uri_of(piece.key), version=piece.version, decoder=decode)
        try:
            self._label(unit, columns)
        except Exception as error:  # noqa: BLE001  an id that is none, a value that makes no text: it costs this unit only
            unit.error = error
        return unit

    def failed(self, store: Store, piece: Piece, place: str, error: Exception) -> Unit:
        """The unit that stands for what could not be read at a place of the file."""
        return Unit(id=f"{piece.key}#{place}", uri=store.uri_of(piece.key), version=piece.version, error=error)

    def damaged(self, store: Store, piece: Piece) -> Unit:
        """The unit that stands for a whole file in which the plan found no records."""
        error = BadMedium(self.damage)
        return Unit(id=piece.key, uri=store.uri_of(piece.key), version=piece.version, error=error)

    @abstractmethod
    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """As of every source."""

    @abstractmethod
    def records(self, store: Store, piece: Piece, names: tuple[str, ...]) -> Iterator[Record]:
        """The records that start in the piece, of the planned version, with at least those columns that they have and
        are named; `end` None is the end of the file."""

    @abstractmethod
    def require(self, store: Store, entry: Entry, names: Iterable[str]) -> None:
        """AccessError where the file lacks one of the columns, as far as its beginning tells."""

    def carried(self, value: Any) -> Any:
        """The value of a kept column as rows carry it."""
        return as_text(value)

    def _label(self, unit: Unit, columns: Mapping[str, Any]) -> None:
        """Give the unit what is known without decoding it."""
        options = self.options
        if options.id_column is not None:
            if _is_none(columns.get(options.id_column)):
                raise BadMedium(f"column {options.id_column!r} holds no id")
            unit.id = as_id(columns[options.id_column])
        unit.kept = {name: self.carried(columns.get(name)) for name in options.keep}

    def _medium(self, columns: Mapping[str, Any], table: RecordOrigin) -> Any:
        return medium_of(columns, self.options.medium, self.columns, table)


def medium_columns(options: SourceOptions) -> tuple[str, ...]:
    """The columns with the medium: those that the user names, else the usual one."""
    if options.column is None:
        return DEFAULT_COLUMN.get(options.medium, ())
    if options.medium == "frame_pair":
        return tuple(name.strip() for name in options.column.split(","))
    return (options.column,)


def refuse_others(name: str, options: SourceOptions) -> None:
    """ValueError where the options ask for what records of this source do not have."""
    if options.medium == "frame_pair" and (len(names := medium_columns(options)) != 2 or not all(names)):
        raise ValueError(f"column ({options.column!r}) must name the two columns of a pair, with a comma between: a,b")
    for option in ("fps", "clip_stride"):
        if value := getattr(options, option):
            raise ValueError(f"{option} ({value}) means nothing to {name}: a record has no time")


def missing_column(uri: str, name: str, there: Iterable[str]) -> AccessError:
    """The error of a file that lacks a column."""
    some = list(there)
    words = ", ".join(some[:_SHOWN]) + (f" and {len(some) - _SHOWN:,} more" if len(some) > _SHOWN else "")
    return AccessError(f"{uri}: no column {name!r}; there is {words or 'none'}")


def as_id(value: Any) -> str:
    """An id: the value as a person would write it."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return _SURROGATE.sub("\ufffd", text)


def _is_none(value: Any) -> bool:
    """Whether a value is no id: null, or nothing, which is how a CSV has a null."""
    return value is None or value in ("", b"")


def as_text(value: Any) -> str | None:
    """A kept value as a string that any reader takes: what is no character becomes U+FFFD."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _SURROGATE.sub("\ufffd", text)
