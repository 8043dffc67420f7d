"""A source that opens files in a sandbox while they are planned, so that a file cannot hang or crash the driver."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa

from pipeline.runtime.stages.isolated_reader import MIN_BYTES_PER_SECOND
from pipeline.sandbox import Died, ResourceLimits, Sandbox, SharedSandbox, near_memory_limit
from pipeline.sources.source import Piece, Source, SourceOptions, Unit
from pipeline.storage import Entry, LeaveOut, Reason, Store

OPEN_THREADS = 16  # files opened in parallel: opening waits for the store
_BATCH = 4096  # ids or units per message from the sandbox


@contextmanager
def isolated(source: Source, limits: ResourceLimits | None) -> Iterator[Source]:
    """Yield a source that opens files in a sandbox, or the given one if there are no limits or it opens no files."""
    if limits is None or not source.opens:
        yield source
        return
    with Sandbox(limits, OPEN_THREADS) as shared, closing(SharedSandbox(shared)) as sandbox:
        yield IsolatedSource(source, sandbox)


class IsolatedSource(Source):
    """A source as the planner uses it, whose files are opened in a sandbox.

    A file that crashes the sandbox or exhausts its memory is opened again alone. If that fails too, the file counts as
    damaged: it is planned as one piece, whose unit is quarantined when it is loaded.
    """

    def __init__(self, source: Source, sandbox: SharedSandbox) -> None:
        self.source, self.sandbox = source, sandbox
        self.name, self.extensions, self.media, self.opens = source.name, source.extensions, source.media, True

    def opens_file(self, entry: Entry) -> bool:
        """Return whether planning opens this file."""
        return self.source.opens_file(entry)

    def configured(self, options: SourceOptions) -> Source:
        """Return the configured source, in the same sandbox."""
        return IsolatedSource(self.source.configured(options), self.sandbox)

    def reason_left_out(self, entry: Entry) -> Reason | None:
        """Return what the source returns."""
        return self.source.reason_left_out(entry)

    def inputs(self, entries: Iterator[Entry], leave_out: LeaveOut) -> Iterator[Entry]:
        """Yield the entries that the source reads, in this process: a listing opens no files."""
        return self.source.inputs(entries, leave_out)

    def kept(self, store: Store, entry: Entry) -> pa.Schema:
        """Return the schema of the kept columns, empty for a damaged file."""
        if not self.opens_file(entry):
            return self.source.kept(store, entry)
        results, complete = self._run(partial(_kept, self.source), store, entry)
        return results[0] if complete else pa.schema([])

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Yield the pieces of a file: in this process if the source does not open it, one piece if it is damaged."""
        if not self.opens_file(entry):
            yield from self.source.pieces(store, entry)
            return
        results, complete = self._run(self.source.pieces, store, entry)
        yield from results if complete else [Piece.of(entry, units=1)]

    def cut_again(self, store: Store, piece: Piece) -> Iterator[Piece]:
        """Yield what a retry reads in place of a piece: the piece itself if it crashes the sandbox."""
        pieces, complete = self._run(self.source.cut_again, store, piece)
        yield from pieces if complete else [piece]

    def ids(self, store: Store, entry: Entry) -> Iterator[str]:
        """Yield the ids of the units of a file, none for a damaged file."""
        results, complete = self._run(self.source.ids, store, entry, batch=_BATCH)
        yield from results if complete else []

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """Yield the units of a piece without their media, to be counted.

        A unit that crashes the sandbox stands for all units after it too, as it does when they are loaded.
        """
        ids, complete = self._run(partial(_unit_ids, self.source), store, piece, batch=_BATCH, batch_alone=1)
        uri = store.uri_of(piece.key)
        return (Unit(id=id_, uri=uri, version=piece.version) for id_ in (ids if complete else [*ids, piece.key]))

    def _run(
        self,
        function: Callable[..., Iterable[Any]],
        store: Store,
        item: Entry | Piece,
        batch: int | None = None,
        batch_alone: int | None = None,
    ) -> tuple[list[Any], bool]:
        """Return the results of `function(store, item)` in the sandbox, and whether they are complete.

        batch, batch_alone: Results per message of the first attempt and of the one alone; None sends all at once.
        """
        seconds = self.sandbox.limits.seconds + item.size / MIN_BYTES_PER_SECOND  # it may have to be read to its end
        with suppress(Died, MemoryError):
            batches = self.sandbox.run(_batches, batch, function, store, item, seconds=seconds)
            return [result for batch in batches for result in batch], True
        results: list[Any] = []
        with suppress(Died, MemoryError):
            size = batch_alone or batch
            for found in self.sandbox.run_alone(_batches_alone, size, function, store, item, seconds=seconds):
                results += found
            return results, True
        return results, False


# These run in the sandbox.


def _batches(size: int | None, function: Callable[..., Iterable[Any]], *arguments: Any) -> Iterator[list[Any]]:
    """Yield the results of a function in batches. Raises MemoryError if memory was short meanwhile: an intact file may
    have seemed damaged."""
    yield from _batches_alone(size, function, *arguments, 0)
    if near_memory_limit():
        raise MemoryError("the process came near its memory limit")


def _batches_alone(size: int | None, function: Callable[..., Iterable[Any]], *arguments: Any) -> Iterator[list[Any]]:
    """Yield the results of a function in batches, but for the first n of them; n is the last argument."""
    *given, first = arguments
    results = iter(function(*given))
    batches = iter(lambda: list(islice(results, size)), [])
    return islice(batches, first, None)


def _kept(source: Source, store: Store, entry: Entry) -> list[pa.Schema]:
    return [source.kept(store, entry)]


def _unit_ids(source: Source, store: Store, piece: Piece) -> Iterator[str]:
    return (unit.id for unit in source.units(store, piece))
