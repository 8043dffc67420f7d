"""Files opened in a child process when they are planned: one that its parser hangs or dies of costs itself only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import pyarrow as pa

from pipeline.media import MediumKind
from pipeline.runtime.stages.isolated_reader import MIN_BYTES_PER_SECOND
from pipeline.sandbox import Died, ResourceLimits, Sandbox, is_memory_shortage, memory_ran_short
from pipeline.sources.source import Piece, Source, SourceOptions, Unit
from pipeline.storage import Entry, Store

OPEN_THREADS = 16  # files opened at a time: opening waits for the store
_BATCH = 4096  # ids or units that leave the child at once


@contextmanager
def isolated(source: Source, limits: ResourceLimits | None) -> Iterator[Source]:
    """For the time of the block, a source that does as the given one, but opens files in a child process.

    It is the given one itself where there are no limits, or where it opens nothing.
    """
    if limits is None or not source.opens:
        yield source
        return
    with Sandbox(limits, OPEN_THREADS) as child, Sandbox(limits) as alone:
        yield IsolatedSource(source, child, alone)


@dataclass(frozen=True)
class IsolatedSource:
    """A source as a plan uses it. A file at which the child dies, or is short of memory, is opened again in another one
    with nothing beside it. Where that is of no use, the file is taken for a damaged one: it is one piece, whose unit
    says so when it is loaded."""

    source: Source
    child: Sandbox
    alone: Sandbox
    lock: threading.Lock = field(default_factory=threading.Lock)  # one file at a time is alone

    @property
    def name(self) -> str:
        """The source's."""
        return self.source.name

    @property
    def extensions(self) -> frozenset[str]:
        """The source's."""
        return self.source.extensions

    @property
    def media(self) -> frozenset[MediumKind]:
        """The source's."""
        return self.source.media

    @property
    def opens(self) -> bool:
        """It does."""
        return True

    def opens_file(self, key: str) -> bool:
        """Whether the source does."""
        return self.source.opens_file(key)

    def configured(self, options: SourceOptions) -> IsolatedSource:
        """The source with what is asked of it, in the same child."""
        return replace(self, source=self.source.configured(options))

    def inputs(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """As the source takes the listing, which holds nothing to open."""
        return self.source.inputs(entries)

    def kept(self, store: Store, entry: Entry) -> pa.Schema:
        """The source's; none where the file is damaged."""
        if not self.opens_file(entry.key):
            return self.source.kept(store, entry)
        found = self._insist(entry.size, _kept, self.source, store, entry)
        return pa.schema([]) if found is None else found[0]

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """The source's, asked here where it opens nothing for them."""
        if not self.opens_file(entry.key):
            yield from self.source.pieces(store, entry)
            return
        found = self._insist(entry.size, _pieces, self.source, store, entry)
        if found is None:
            yield Piece(key=entry.key, version=entry.version, size=entry.size, units=1)
        else:
            yield from found[0]

    def ids(self, store: Store, entry: Entry) -> Iterator[str]:
        """The source's; none where the file is damaged."""
        found = self._insist(entry.size, _ids, self.source, store, entry)
        for batch in found or []:
            yield from batch

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """The source's, to be counted: they have neither medium nor error. Where coming to one of them ends the child,
        it stands for all behind it, as when they are loaded."""
        uri = store.uri_of(piece.key)
        return (Unit(id=name, uri=uri, version=piece.version) for name in self._names(store, piece))

    def _names(self, store: Store, piece: Piece) -> list[str]:
        given = self.source, store, piece
        with suppress(Died, MemoryError):
            batches, short = self._try(self.child, piece.size, _names, *given, _BATCH)
            if not short:
                return [name for batch in batches for name in batch]
        names: list[str] = []
        with self.lock, suppress(Died, MemoryError):
            for batch in self.alone.run(_names, *given, 1, seconds=self._seconds(piece.size)):
                names += batch
            return names
        return [*names, piece.key]

    def _insist(self, size: int, function: Callable[..., Iterator[Any]], *arguments: Any) -> list[Any] | None:
        """The results of a call about a file of so many bytes; None where there are none, alone as well."""
        with suppress(Died, MemoryError):
            results, short = self._try(self.child, size, function, *arguments)
            if not short:
                return results
        with self.lock:
            try:
                return self._try(self.alone, size, function, *arguments)[0]
            except (Died, MemoryError):
                return None

    def _try(
        self, child: Sandbox, size: int, function: Callable[..., Iterator[Any]], *arguments: Any
    ) -> tuple[list[Any], bool]:
        """The results, and whether memory was short in the meantime: then a sound file may have seemed damaged."""
        try:
            *results, short = child.run(_watched, function, *arguments, seconds=self._seconds(size))
        except Exception as error:
            if not is_memory_shortage(error):
                raise
            child.renew()
            raise MemoryError(str(error)) from error
        if short:
            child.renew()  # what was imported in it just then may be there by halves
        return results, short

    def _seconds(self, size: int) -> float:
        """That a call may take about a file which it may have to read from its beginning to its end."""
        return self.child.limits.seconds + size / MIN_BYTES_PER_SECOND


def _watched(function: Callable[..., Iterator[Any]], *arguments: Any) -> Generator[Any, None, bool]:
    """In the child: the results, and at last whether memory was short."""
    yield from function(*arguments)
    return memory_ran_short()


def _kept(source: Source, store: Store, entry: Entry) -> Iterator[pa.Schema]:
    yield source.kept(store, entry)


def _pieces(source: Source, store: Store, entry: Entry) -> Iterator[list[Piece]]:
    yield list(source.pieces(store, entry))


def _ids(source: Source, store: Store, entry: Entry) -> Iterator[list[str]]:
    return _batches(source.ids(store, entry), _BATCH)


def _names(source: Source, store: Store, piece: Piece, size: int) -> Iterator[list[str]]:
    return _batches((unit.id for unit in source.units(store, piece)), size)


def _batches(names: Iterator[str], size: int) -> Iterator[list[str]]:
    while batch := list(islice(names, size)):
        yield batch
