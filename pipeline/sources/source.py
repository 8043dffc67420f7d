"""The contract of a source: files in a store are cut into pieces when planned and read as units when loaded."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, Self, TypeVar

import pyarrow as pa

from pipeline.formatting import did_you_mean
from pipeline.media import ClipSpec, MediumKind
from pipeline.storage import (
    AccessError,
    Changed,
    Corrupt,
    Denied,
    Entry,
    LeaveOut,
    Missing,
    Reason,
    StorageError,
    Store,
)

T = TypeVar("T")
_ADDED = ("units", "about", "weight")  # numbers of a piece that add up
_MAX_LISTED_COLUMNS = 20  # in an error message
BlankText = Literal["predict", "quarantine"]

VIDEO_TIMES = ("fps", "start", "end")
"""Options that need frames with times."""

NO_MEDIUM_REMEDY = (
    "Name the column with --column, or leave the file out: --input-format reads one format only, and a glob such as "
    "*.txt only what it matches"
)


class ColumnMismatch(AccessError):  # noqa: N818 - like the next, a state of the file
    """A file of records lacks a column that the run needs, or has it with another type."""


class NoMediumColumn(ColumnMismatch):
    """A file of records has no column that holds the task's medium."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A file or a part of one; shards are made of pieces.

    Attributes:
        key: of the file, relative to INPUT.
        version: of the file, as planned.
        size: of the whole file, in bytes.
        begin: start of the part, in what the source counts: bytes, rows, clips or microseconds; None for a whole file.
        end: end of the part, exclusive; None for the end of the file, 0 for a file without units.
        first: number of the first unit of the part, or of the record batch that holds it, in the file.
        offset: byte at which reading starts.
        other: key of the second file of a pair.
        units: number of units, if it is known without opening the file. The source then gives exactly that many.
        about: estimated number of units, if `units` is not known.
        weight: estimated bytes of the decoded media.
        skip: number of units at the beginning that belong to an earlier plan. The source still gives them; `units` and
            `about` do not count them.
        most: maximum number of units to take.
        kept: JSON of the columns that a metadata file gives to all units of the file, by name.
        video_begin, video_end: range of the piece in the video of its one record; None for other pieces. The last piece
            of a video has no end.
        left_out: of an archive, names of members in or near the part that are left out, with the reason.
        links: of an archive, for each link in the part the byte at which it starts, and that of the regular member that
            it leads to; without those that are left out. None if there are none, or an earlier version planned it.
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
    kept: str | None = None
    video_begin: int | None = None
    video_end: int | None = None
    left_out: Sequence[tuple[str, str]] | None = None
    links: Sequence[tuple[int, int]] | None = None

    @classmethod
    def of(cls, entry: Entry, **fields: Any) -> Self:
        """Return a piece of a listed file; without `begin` it is the whole file."""
        return cls(key=entry.key, version=entry.version, size=entry.size, kept=entry.kept, **fields)

    def joined(self, following: Self) -> Self:
        """Return this piece and the one that follows it in the file as one; a number that one lacks is unknown."""
        pairs = {name: (getattr(self, name), getattr(following, name)) for name in _ADDED}
        numbers: dict[str, Any] = {name: None if None in pair else sum(pair) for name, pair in pairs.items()}
        return replace(
            self,
            end=following.end,
            left_out=_concatenated(self.left_out, following.left_out),
            links=_concatenated(self.links, following.links),
            **numbers,
        )


def _concatenated(one: Sequence[T] | None, other: Sequence[T] | None) -> Sequence[T] | None:
    return None if one is None and other is None else [*(one or ()), *(other or ())]


@dataclass(kw_only=True, eq=False)
class Unit:
    """One prediction of a head. Its id is known before anything of it is decoded.

    Attributes:
        id: unique in a run, see `docs/inputs.md`.
        uri: of the file that holds the medium: the one that the piece is of, or the one that a row names.
        version: of that file, as planned; of a file that a row names, as it was read, which decoding or `units` adds.
        kept: values of the columns that the user keeps, by name. Decoding an image adds the number of its `frames`.
        medium: what `MediumKind` says, if it needs no decoding.
        decoder: makes the medium. It may raise anything.
        error: why there is no medium, if that is known without decoding.
    """

    id: str
    uri: str
    version: str
    kept: dict[str, Any] = field(default_factory=dict)
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
    """What the head needs of a source, and what the user can set.

    Attributes:
        medium: what units hold.
        clip_spec: shape of clips, for `medium` "clip".
        piece_units: maximum number of units per piece, if pieces can be cut so.
        column: column with the medium; for frame pairs two names with a comma between.
        id_column: column with the ids.
        keep: columns copied to the output.
        columns: columns of stored latents that the head needs.
        text_unit: whether each line or each whole .txt file is a unit.
        blank_text: whether a text that is null, empty or white space is a unit like others, null as an empty text, or
            an error.
        csv_quoting: whether double quotes around a field of a CSV or TSV file are not part of it; "auto": not in TSV.
        fps: frame rate at which frame pairs are sampled; None is the video's own.
        start, end: seconds of videos: units that begin at `start` or later and before `end`; None for no limit.
        clip_stride: seconds between the starts of clips; None is the length of a clip.
        short_clip: whether a clip that extends past the end of its video is padded with the last frame or left out.
        transparency: whether images lose their transparency, or are composited on white.
    """

    medium: MediumKind = "text"
    clip_spec: ClipSpec | None = None
    piece_units: int | None = None
    column: str | None = None
    id_column: str | None = None
    keep: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    text_unit: Literal["line", "file"] = "line"
    blank_text: BlankText = "predict"
    csv_quoting: Literal["auto", "double", "none"] = "auto"
    fps: float | None = None
    start: float | None = None
    end: float | None = None
    clip_stride: float | None = None
    short_clip: Literal["pad", "drop"] = "pad"
    transparency: Literal["drop", "white"] = "drop"


class Holds(Protocol):
    """Tells whether a folder holds a visible file with one of the extensions, at any depth."""

    def __call__(self, extensions: frozenset[str], but: re.Pattern[str] | None = None) -> bool:
        """Return whether it does, not counting files whose names begin with a match of `but`."""


class Source(ABC):
    """One input format. Stateless and picklable: load tasks use it from several threads.

    The defaults are those of files that have no columns, hold no ids and are listed one by one.

    Attributes:
        name: name in `--input-format`.
        extensions: extensions of the files that it takes from a folder: lower case, with the dot.
        media: what its units can hold.
        opens: whether `pieces` opens any files.
        pairs: whether image files in a folder are frames, each two neighbours a pair.
        media_extensions: extensions of image and video files, next to which tables without them are left out.
        keep: columns that a file without columns must have from its folders, or from a metadata file next to it.
    """

    name: str
    extensions: frozenset[str]
    media: frozenset[MediumKind]
    opens: bool = False
    pairs: bool = False
    media_extensions: frozenset[str] = frozenset()
    keep: tuple[str, ...] = ()

    @abstractmethod
    def configured(self, options: SourceOptions) -> "Source":
        """Return this source with the options. Raise ValueError for an option that it does not support."""

    def opens_file(self, entry: Entry) -> bool:  # noqa: ARG002
        """Return whether `pieces` opens this file. The planner then plans several at a time."""
        return self.opens

    def is_unknown(self, key: str, *, named: bool = False) -> bool:  # noqa: ARG002
        """Return whether the first bytes of a file, not its name, tell its format. A listing then reads them.

        named: the user named the file, or gave a glob that matches it.
        """
        return False

    def reason_left_out(self, entry: Entry) -> Reason | None:  # noqa: ARG002
        """Return why a file of a folder is left out that has none of the extensions, None if it is read."""
        return Reason.OTHER_FORMAT

    def has_columns(self, key: str) -> bool:  # noqa: ARG002
        """Return whether the file holds records with columns, rather than being the medium itself."""
        return False

    def holds_columns(self, entry: Entry) -> bool:
        """Return whether a listed file holds records with columns, by its name or its content."""
        return self.has_columns(entry.key)

    def reason_beside(self, entry: Entry, holds: Holds) -> Reason | None:  # noqa: ARG002
        """Return why a file of a folder that this source can read is left out, None if it is read."""
        return None

    def is_media_file(self, entry: Entry) -> bool:  # noqa: ARG002
        """Return whether the content of a file, not its name, says that it is an image or a video that is read."""
        return False

    def inputs(self, entries: Iterator[Entry], leave_out: LeaveOut) -> Iterator[Entry]:  # noqa: ARG002
        """Yield the entries to plan, in the order of the listing: filtered, or two frames merged into one entry.

        Call `leave_out` for each entry that is no part of what is yielded.
        """
        return entries

    def kept(self, store: Store, entry: Entry) -> pa.Schema:  # noqa: ARG002
        """Return the schema of the kept columns of one file. Raise AccessError, naming the file, if one is missing."""
        return pa.schema([(name, pa.string()) for name in self.keep])

    @abstractmethod
    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Cut one file into pieces, when it is planned.

        Raise AccessError if no unit can be read as requested, for example because a column is missing or has another
        type. A damaged file is one piece, whose unit reports the damage when it is loaded.
        """

    def cut_again(self, store: Store, piece: Piece) -> Iterator[Piece]:  # noqa: ARG002
        """Yield what a retry reads in place of a part of a file: its pieces if it could not be opened when planned."""
        yield piece

    def ids(self, store: Store, entry: Entry) -> Iterator[str]:  # noqa: ARG002
        """Yield the values of the id column of one file; nothing if there is no id column."""
        return iter(())

    @abstractmethod
    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """Yield the units of a piece, when it is loaded.

        A unit that cannot be read has its `error` set or raises it in `decode`. Only errors that `is_access_lost`
        recognises are raised here: without access the run must fail instead of quarantining every unit of INPUT.
        """


def refuse_columns(name: str, options: SourceOptions) -> None:
    """Raise ValueError if the options name columns for the media or ids of a source whose files have none."""
    for option in ("column", "id_column"):
        if value := getattr(options, option):
            raise ValueError(f"{option} ({value!r}) is not supported for {name}: the files have no columns")


def missing_column(
    uri: str, name: str, available: Iterable[str], kind: type[ColumnMismatch] = ColumnMismatch
) -> ColumnMismatch:
    """Return the error for a file that lacks a column; `kind` NoMediumColumn if it should hold the medium."""
    names = list(available)
    listed = ", ".join(names[:_MAX_LISTED_COLUMNS]) or "none"
    more = f" and {len(names) - _MAX_LISTED_COLUMNS:,} more" if len(names) > _MAX_LISTED_COLUMNS else ""
    remedy = f". {NO_MEDIUM_REMEDY}" if kind is NoMediumColumn else ""
    return kind(
        f"{uri}: column {name!r} not found{did_you_mean(name, names)}; available columns: {listed}{more}{remedy}"
    )


@contextmanager
def ignore_damage() -> Iterator[None]:
    """Ignore what parsers of untrusted bytes raise, which is anything, and a file that is denied, gone or replaced.

    So is one that the store does not give whole. Lost access and failing stores still raise.
    """
    try:
        yield
    except (Denied, Missing, Changed, Corrupt):
        pass
    except (AccessError, StorageError):
        raise
    except Exception:  # noqa: BLE001, S110  the units of the file report it when they are loaded
        pass
