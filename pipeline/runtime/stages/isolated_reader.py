"""Pieces read in a child process: a unit that hangs, kills or eats memory costs itself, its neighbours nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial

from pipeline.runtime.records.quarantine import quarantine_record
from pipeline.runtime.stages.result_batches import read_batches
from pipeline.runtime.stages.unit_reader import Loader, RetryReason, UnitResult, UnitStarted, read_steps
from pipeline.sandbox import Died, ResourceLimits, Sandbox
from pipeline.sources.compressed import is_compressed
from pipeline.sources.source import Piece

MAX_ATTEMPTS = 2  # of a unit, before it is quarantined for what it does to its process
MAX_FATAL_UNITS = 8  # units of one piece that are found out so; what follows them is given up
MIN_BYTES_PER_SECOND = 4 << 20  # bytes a second at which a file is at least read that must be read from its beginning
SMALL_FILE_BYTES, MAX_FILES_PER_CALL = 1 << 18, 8  # bytes of a small file, and how many of them are read by one call


class IsolatedReader:
    """Reads pieces side by side in one child process; those in flight when it dies again in another one, one by one.

    All but one of them are innocent: alone they succeed. In the one that does not, the unit at whose decoding the
    process died twice is quarantined, and the others are read without it. A lack of memory counts as a death, for the
    neighbours may have had their part in it. A context manager: the second process ends with the block.
    """

    def __init__(self, loader: Loader) -> None:
        assert loader.limits is not None
        self.limits, self._threads = loader.limits, loader.threads
        self._child, self._alone = _child(loader.limits, loader.threads), Sandbox(loader.limits)
        self._lock = threading.Lock()  # one piece at a time is alone
        self._parcels = partial(read_batches, loader)
        self._step_by_step = partial(read_steps, loader)
        self._loader = loader

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._alone.close()

    def groups(self, pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
        """The pieces in their order, small files a few at a time: a call takes as long as reading one of them."""
        most, group = min(MAX_FILES_PER_CALL, len(pieces) // (4 * self._threads)), list[Piece]()
        for piece in pieces:
            small = piece.begin is None and piece.size <= SMALL_FILE_BYTES
            if group and (not small or len(group) >= most):
                yield group
                group = []
            group.append(piece)
            if not small:
                yield group
                group = []
        if group:
            yield group

    def read(self, pieces: Sequence[Piece], attempt: int) -> list[list[UnitResult]]:
        """What becomes of each unit of the pieces, of those too that only end their process."""
        results: list[list[UnitResult]] = [[] for _ in pieces]
        seconds, tries = max(seconds_per_unit(self.limits, piece) for piece in pieces), 0
        try:
            for parcel in self._child.run(self._parcels, pieces, attempt, seconds=seconds):
                for number, found in parcel.opened():
                    results[number].append(found)
            again = [any(found.trouble is RetryReason.MEMORY for found in some) for some in results]
            if any(again):
                self._child.renew()  # what was imported in it just then may be there by halves
        except Died as death:
            again, tries = [True] * len(pieces), 1 if death.culprit and len(pieces) == 1 else 0
        for number, piece in enumerate(pieces):
            if again[number]:
                with self._lock:
                    results[number] = list(self._read_alone(piece, attempt, tries))
        return results

    def _read_alone(self, piece: Piece, attempt: int, tries: int) -> Iterator[UnitResult]:
        """The same, with nothing beside it; `tries` that its first unit has had before."""
        given = killers = 0
        while True:
            begun: UnitStarted | None = None
            failure: Exception | None = None
            for step in self._steps(piece, attempt, given):
                if isinstance(step, UnitResult):
                    yield step
                    given, tries, begun = given + 1, 0, None
                elif isinstance(step, UnitStarted):
                    begun = step
                else:
                    failure = step
            if failure is None:
                return
            tries += 1
            if tries < MAX_ATTEMPTS:
                continue
            if begun is None or killers == MAX_FATAL_UNITS:
                yield from quarantine_rest(self._loader, piece, given, failure)
                return
            yield UnitResult(quarantine_record(begun.id, begun.uri, "load", failure, attempts=MAX_ATTEMPTS))
            given, killers, tries = given + 1, killers + 1, 0

    def _steps(self, piece: Piece, attempt: int, first: int) -> Iterator[UnitStarted | UnitResult | Exception]:
        """The steps, with nothing beside them. The last is an error where the process died, or was short of memory."""
        seconds = seconds_per_unit(self.limits, piece)
        steps = self._alone.run(self._step_by_step, piece, attempt, first, seconds=seconds)
        try:
            for step in steps:
                if isinstance(step, UnitResult) and step.trouble is RetryReason.MEMORY:
                    self._alone.renew()
                    yield self._too_large()
                    return
                yield step
        except Died as death:
            yield death

    def _too_large(self) -> MemoryError:
        most = self.limits.memory_bytes
        limit = "there is" if most is None else f"the {most / 2**30:.3g} GiB that a unit may take"
        return MemoryError(f"needs more memory than {limit}")


def quarantine_rest(loader: Loader, piece: Piece, given: int, error: Exception) -> Iterator[UnitResult]:
    """What becomes of the units of a piece after the first `given` when they cannot be read: each of them is
    quarantined where their number is known, else one for all."""
    uri = loader.inputs.uri_of(piece.key)
    most = piece.units if piece.units is not None else given + 1
    if piece.most is not None:
        most = min(most, piece.most)
    for number in range(given, most):
        name = _name(piece, number)
        done = name in loader.done
        yield UnitResult(None if done else quarantine_record(name, uri, "load", error, attempts=MAX_ATTEMPTS))


def seconds_per_unit(limits: ResourceLimits, piece: Piece) -> float:
    """Seconds that reading a unit may take; of a compressed file all that lies before it must be read, too."""
    return limits.seconds + (piece.size / MIN_BYTES_PER_SECOND if is_compressed(piece.key) else 0.0)


def _name(piece: Piece, number: int) -> str:
    """The id of a unit that only its place in a piece is known of: that of a row where the piece counts rows."""
    if piece.begin is None:
        return piece.key if number == 0 else f"{piece.key}#+{number}"
    at = (piece.skip or 0) + number
    return f"{piece.key}#{piece.begin + at}" if piece.units is not None else f"{piece.key}#{piece.begin}+{at}"


@lru_cache(maxsize=1)
def _child(limits: ResourceLimits, threads: int) -> Sandbox:
    """The one of this process, for all its tasks: it takes half a second to start."""
    return Sandbox(limits, threads)
