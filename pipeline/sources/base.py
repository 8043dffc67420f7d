"""What every source is: files in a store, cut into pieces when planned, read as units when loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.storage import Entry, Store


class BadMedium(ValueError):  # noqa: N818  what it names is the medium, and a quarantine row shows the name
    """A medium that cannot be predicted, with the reason for a person: its unit goes to quarantine."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What a shard is made of: a file, or the bytes from `begin` to `end` of one.

    key: relative to INPUT. version: as planned. size: bytes of the whole file. units: how many it holds, where that is
    known without reading it.
    """

    key: str
    version: str
    size: int
    begin: int | None = None
    end: int | None = None
    units: int | None = None


@dataclass(kw_only=True)
class Unit:
    """What a head predicts once for: its id, where it came from, and its medium, or else the error that took it."""

    id: str
    uri: str
    version: str
    medium: Any = None
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What a user may ask of a source. `column`: the one of a record that holds the medium."""

    column: str | None = None


class Source(Protocol):
    """A kind of input. Stateless and picklable: it is used in load tasks, in several threads at once."""

    @property
    def name(self) -> str:
        """As `--input-format` calls it."""

    @property
    def extensions(self) -> frozenset[str]:
        """Of the files that it takes from a folder: lower case, with the dot."""

    def configured(self, options: SourceOptions) -> Source:
        """This source with what a user asks of it; ValueError where an option means nothing to it."""

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """The pieces of one file, when the plan is made."""

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """The units of one piece, when it is loaded. A unit that cannot be read has its `error` set, none is raised;
        only AccessError is: without access the run must fail and not quarantine its way through INPUT."""
