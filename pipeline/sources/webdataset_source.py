"""Tar archives as WebDataset has them: members that follow one another under one name are one sample, a unit.

Members are read as streams: nothing is extracted to disk, no link is followed, and no pickle is ever loaded.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from pipeline.media import BadMedium, MediumKind
from pipeline.sources.compressed import is_compressed, merge_ranges, open_decompressed
from pipeline.sources.image_source import MAX_FILE_BYTES
from pipeline.sources.record_source import DEFAULT_COLUMN, Record, RecordSource, missing_column, refuse_others
from pipeline.sources.source import Piece, SourceOptions
from pipeline.sources.tar_samples import DuplicateMember, TarSample, each_once, samples
from pipeline.storage import AccessError, Entry, StorageError, Store

ARCHIVE_PIECE_BYTES = 4 << 20

_USUAL: Mapping[MediumKind, tuple[str, ...]] = {
    "image": ("jpg", "jpeg", "png", "webp", "avif", "jp2", "gif", "bmp", "tif", "tiff", "ppm", "pgm"),
    "text": ("txt", "text"),
    "array": ("npy",),
}
"""Columns that hold a medium where the user names none; the first that a sample has is taken."""

_PICKLES = ("pickle", "pkl", "pt", "pth")


@dataclass(frozen=True)
class WebDataset(RecordSource):
    """Reads archives. A column is what stands behind the first dot of a member's name; the id is the archive's key and
    the sample's name, `shard-0001.tar#cats/a`. A compressed archive is at most 64 pieces, as each is read from its
    beginning."""

    damage: ClassVar[str] = "the archive could not be read to its end when it was planned"

    def configured(self, options: SourceOptions) -> RecordSource:
        """With what is asked of it; ValueError for columns that are pickles, which run code when they are read."""
        refuse_others(self.name, options)
        configured = replace(self, options=options)
        for name in configured.wanted:
            if name.lower().rpartition(".")[2] in _PICKLES:
                raise ValueError(f"column {name!r} is a pickle, which runs code when it is read: it is not read")
        return configured

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Ranges of whole samples. AccessError where no sample has the column, or two samples have one name. An archive
        that cannot be read to its end is one unit, whose error says so when it is loaded."""
        try:
            found = self._ranges(store, entry)
        except (AccessError, StorageError):
            raise
        except Exception:  # noqa: BLE001  a parser of untrusted bytes: whatever it raises, the archive is damaged
            yield Piece(key=entry.key, version=entry.version, size=entry.size, units=1)
            return
        if not found:
            yield Piece(key=entry.key, version=entry.version, size=entry.size, begin=0, end=0, units=0)
        for begin, end, count in merge_ranges(found) if is_compressed(entry.key) else found:
            yield Piece(key=entry.key, version=entry.version, size=entry.size, begin=begin, end=end, about=count)

    def records(self, store: Store, piece: Piece, names: tuple[str, ...]) -> Iterator[Record]:
        """The samples of the piece; of their members those that are named, and those with the medium."""
        if piece.begin == piece.end:  # of an archive without samples: none
            return
        wanted = frozenset(member for name in names for member in self._members(name))
        with open_decompressed(store, piece.key, piece.version) as file:
            for sample in samples(file, piece.begin or 0, piece.end, wanted, MAX_FILE_BYTES):
                yield Record(sample.name, f"byte-{sample.end}", self._columns(sample, names))

    def require(self, store: Store, entry: Entry, names: Iterable[str]) -> None:
        """AccessError where no sample has one of the columns; nothing where the archive is damaged."""
        there: set[str] = set()
        try:
            with open_decompressed(store, entry.key) as file:
                for sample in samples(file, 0, None):
                    there.update(sample.there)
                    if all(there.intersection(self._members(name)) for name in names):
                        return
        except (AccessError, StorageError):
            raise
        except Exception:  # noqa: BLE001  as above; it is one unit of the plan
            return
        self._check(store.uri_of(entry.key), there, names)

    def _check(self, uri: str, there: set[str], names: Iterable[str]) -> None:
        for name in names:
            if there and not there.intersection(self._members(name)):
                raise missing_column(uri, " or ".join(self._members(name)), sorted(there))

    def _ranges(self, store: Store, entry: Entry) -> list[tuple[int, int, int]]:
        """(begin, end, samples) of each piece."""
        there: set[str] = set()
        found: list[tuple[int, int, int]] = []
        begin = end = count = 0
        try:
            with open_decompressed(store, entry.key) as file:
                for sample in each_once(samples(file, 0, None)):
                    there.update(sample.there)
                    count, end = count + 1, sample.end
                    if end - begin >= ARCHIVE_PIECE_BYTES or count == self.options.piece_units:
                        found.append((begin, end, count))
                        begin, count = end, 0
        except DuplicateMember as error:
            raise AccessError(f"{store.uri_of(entry.key)}: {error}") from None
        self._check(store.uri_of(entry.key), there, self.wanted)
        return [*found, (begin, end, count)] if count else found

    def _members(self, name: str) -> tuple[str, ...]:
        """The columns of a sample that are meant by a name: itself, or the usual ones of the medium."""
        if self.options.column is None and (name,) == DEFAULT_COLUMN.get(self.options.medium):
            return _USUAL[self.options.medium]
        return (name.lower(),)

    def _columns(self, sample: TarSample, names: tuple[str, ...]) -> dict[str, Any] | Exception:
        """The values of a sample by the names that were asked for; those it lacks are left out."""
        columns: dict[str, Any] = {}
        for name in names:
            member = next((each for each in self._members(name) if each in sample.there), None)
            if member is None and name in self.columns:
                wanted = " or ".join(self._members(name))
                return BadMedium(f"no column {wanted}; the sample has {', '.join(sample.there)}")
            if member is None:
                continue
            value = sample.values[member]
            if isinstance(value, Exception):
                return value
            try:
                columns[name] = self._value(name, member, value)
            except Exception as error:  # noqa: BLE001  no array, no JSON: numpy's parser of headers raises anything at all
                return _unreadable(member, error)
        return columns

    def _value(self, name: str, member: str, data: bytes) -> Any:
        if name == self.options.id_column:
            return data.strip()
        if self.options.medium != "array" or name not in self.columns:
            return data
        if member.rpartition(".")[2] == "npy":
            return np.load(io.BytesIO(data), allow_pickle=False)
        return json.loads(data)


def _unreadable(member: str, error: Exception) -> BadMedium:
    bad = BadMedium(f"{member} cannot be read: {error or type(error).__name__}")
    bad.__cause__ = error  # which tells a lack of memory from a damage
    return bad


WEBDATASET = WebDataset(
    "webdataset", frozenset({".tar", ".tar.gz", ".tgz"}), frozenset({"text", "image", "frame_pair", "array"})
)
