"""What every source is: files in a store, cut into pieces when planned, read as units when loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import pyarrow as pa

from pipeline.media import ClipSpec, MediumKind
from pipeline.storage import Entry, Store


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What a shard is made of: a file, or a part of one.

    key: relative to INPUT. version: as planned. size: bytes of the whole file.
    begin, end: of the part, where it is one: bytes, rows, clips or microseconds, as the source counts; None and None is
    the whole file. first: number of the part's first unit (or of the record batch it lies in) in the file. offset:
    where in the file to begin reading, in bytes. other: key of the second file of a pair.
    units: how many it holds, where that is known without opening it: the source then gives exactly as many, whatever
    happens. about: how many it may hold, where `units` is not known. weight: estimated bytes of the media once decoded.
    skip: so many units at its beginning are not taken, as an earlier plan has them; `units` and `about` are without
    them, and the source gives them all the same. most: no more units than this are taken of it.
    """

    key: str
    version: str
    size: int
    begin: int | None = None
    end: int | None = None
    first: int | None = None
    offset: int | None = None
    other: str | None = None
    units: int | None = None
    about: int | None = None
    weight: int | None = None
    skip: int | None = None
    most: int | None = None


@dataclass(kw_only=True, eq=False)
class Unit:
    """One prediction of a head. Its id is known before anything of it is decoded.

    Attributes:
        id: unique in a run, see `docs/inputs.md`.
        uri: of the file that it was read from.
        version: of that file, as planned.
        kept: values of the columns that the user keeps, by name.
        medium: what `MediumKind` says, if it needs no decoding.
        decoder: makes the medium. It may raise anything.
        error: why there is no medium, if that is known without decoding.
    """

    id: str
    uri: str
    version: str
    kept: Mapping[str, Any] = field(default_factory=dict)
    medium: Any = None
    decoder: Callable[[], Any] | None = None
    error: Exception | None = None

    def decode(self) -> Any:
        """Decode and return the medium, which the unit then no longer refers to. Raise the reason if there is none."""
        medium, decoder = self.medium, self.decoder
        self.medium = self.decoder = None
        if self.error is not None:
            raise self.error
        return medium if decoder is None else decoder()


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What the head needs of a source, and what a user may ask of it.

    medium: what units hold. clip: how clips are made. piece_units: no piece shall hold more units than this.
    column: of a record, the one with the medium; for pairs two, with a comma between. id_column: the one with the id.
    keep: columns that rows carry along. columns: those of a row with latents.
    text_unit: what of a .txt is a unit. fps: of the frames that flow is between; None is the video's own. clip_stride:
    seconds from one clip's start to the next one's; None is the clip's length. short_clip: whether a clip that the
    video is too short for is padded by its last frame or left out.
    """

    medium: MediumKind = "text"
    clip: ClipSpec | None = None
    piece_units: int | None = None
    column: str | None = None
    id_column: str | None = None
    keep: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    text_unit: Literal["line", "file"] = "line"
    fps: float | None = None
    clip_stride: float | None = None
    short_clip: Literal["pad", "drop"] = "pad"


class Source(Protocol):
    """A kind of input. Stateless and picklable: it is used in load tasks, in several threads at once."""

    @property
    def name(self) -> str:
        """As `--input-format` calls it."""

    @property
    def extensions(self) -> frozenset[str]:
        """Of the files that it takes from a folder: lower case, with the dot."""

    @property
    def media(self) -> frozenset[MediumKind]:
        """What its units can hold."""

    @property
    def opens(self) -> bool:
        """Whether `pieces` opens files, any of them."""

    def opens_file(self, key: str) -> bool:
        """Whether it opens this one, so that many such are planned at a time."""

    def configured(self, options: SourceOptions) -> Source:
        """This source with what is asked of it; ValueError where an option means nothing to it."""

    def inputs(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """The listing as this source takes it, in the same order: `entries` itself, or two frames made one entry."""

    def kept(self, store: Store, entry: Entry) -> pa.Schema:
        """The columns of `keep`, as they are in this file; AccessError, naming it, where it lacks one."""

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """The pieces of one file, when the plan is made. AccessError where no unit of it could be read as asked: a
        column is missing or of another type. A damaged file is one piece, whose units say so when it is loaded."""

    def ids(self, store: Store, entry: Entry) -> Iterator[str]:
        """Every value of the id column in one file; nothing where there is no id column."""

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """Yield the units of a piece, when it is loaded.

        A unit that cannot be read has its `error` set or raises it in `decode`. AccessError alone is raised here:
        without access the run must fail instead of sending every unit of INPUT to quarantine.
        """


class FileSource:
    """What sources of whole files have in common: no columns, no ids in them, the listing as it is."""

    opens = False

    def opens_file(self, key: str) -> bool:  # noqa: ARG002
        """As it does all of them."""
        return self.opens

    def inputs(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Every file by itself."""
        return entries

    def kept(self, store: Store, entry: Entry) -> pa.Schema:  # noqa: ARG002
        """None."""
        return pa.schema([])

    def ids(self, store: Store, entry: Entry) -> Iterator[str]:  # noqa: ARG002
        """None."""
        return iter(())


def refuse_columns(name: str, options: SourceOptions) -> None:
    """ValueError where the options name columns of a source whose files have none."""
    for option in ("column", "id_column", "keep"):
        if value := getattr(options, option):
            raise ValueError(f"{option} ({value!r}) means nothing to {name}: such a file has no columns")
