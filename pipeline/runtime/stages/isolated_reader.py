"""Read pieces in a sandbox: a unit that hangs, crashes or exhausts the memory is quarantined, the others are read."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import lru_cache, partial
from itertools import groupby, islice

from pipeline.runtime.records.quarantine import quarantine_record
from pipeline.runtime.stages.result_batches import ResultBatch, batched
from pipeline.runtime.stages.unit_reader import Loader, UnitResult, read_steps
from pipeline.sandbox import Died, Failed, ResourceLimits, Sandbox, SharedSandbox
from pipeline.sinks.parts import Quarantined
from pipeline.sources.source import Piece
from pipeline.sources.text.compressed import compression_by_name

MAX_ATTEMPTS = 2  # per unit that crashes its process
MAX_FATAL_UNITS = 8  # units per piece that crash their process; the units after the last one are not read
MIN_BYTES_PER_SECOND = 4 << 20  # slowest expected rate of reading a file that must be read from its beginning
SMALL_FILE_BYTES, MAX_FILES_PER_CALL = 1 << 18, 8  # files of at most the first are read by one call, up to the second
# Returns the sandbox of this process, for all its tasks: starting one takes half a second.
shared_sandbox = lru_cache(maxsize=1)(Sandbox)


class IsolatedReader:
    """Reads pieces in parallel in a sandbox that all tasks of this process share.

    Pieces in flight when the sandbox crashes are read again alone. The unit that crashes it twice is quarantined, and
    the others of its piece are read without it. Close it after use.
    """

    def __init__(self, loader: Loader) -> None:
        assert loader.limits is not None
        self._loader, self._limits = loader, loader.limits
        self._sandbox = SharedSandbox(shared_sandbox(loader.limits, loader.threads))
        self._read_batches = partial(_read_batches, loader)
        self._read_steps = partial(read_steps, loader)

    def close(self) -> None:
        """End the process of pieces that are read alone."""
        self._sandbox.close()

    def read(self, pieces: Sequence[Piece], attempt: int) -> list[list[UnitResult]]:
        """Return the results of the units of each piece, among them those of units that crash their process."""
        seconds = max(seconds_per_unit(self._limits, piece) for piece in pieces)
        results: list[list[UnitResult]] = [[] for _ in pieces]
        try:
            for batch in self._sandbox.run(self._read_batches, pieces, attempt, seconds=seconds):
                for number, result in batch.results():
                    results[number].append(result)
        except (Died, MemoryError) as crash:
            failed_attempts = int(isinstance(crash, Died) and crash.culprit and len(pieces) == 1)
        else:
            return results
        return [list(self._read_alone(piece, attempt, failed_attempts)) for piece in pieces]

    def _read_alone(self, piece: Piece, attempt: int, failed_attempts: int) -> Iterator[UnitResult]:
        """Yield the results of a piece with nothing else in the process."""
        finished, fatal, seconds = 0, 0, seconds_per_unit(self._limits, piece)
        results = self._sandbox.run_alone(
            self._read_steps, piece, attempt, seconds=seconds, attempts=MAX_ATTEMPTS, failed_attempts=failed_attempts
        )
        try:
            with closing(results):  # which lets the next piece have the process
                for result in results:
                    if isinstance(result, Failed):
                        if fatal == MAX_FATAL_UNITS:
                            raise result.error  # it stands for all units that are left
                        fatal += 1
                        (unit_id, uri), error = result.item, self._reason(result.error)
                        yield UnitResult(quarantine_record(unit_id, uri, "load", error, attempts=result.attempts))
                    else:
                        yield result
                    finished += 1
        except (Died, MemoryError) as crash:
            for unit in quarantine_rest(self._loader, piece, finished, self._reason(crash)):
                yield UnitResult(unit)

    def _reason(self, error: Exception) -> Exception:
        """Return a crash as it is, and a lack of memory with the limit."""
        if isinstance(error, Died):
            return error
        most = self._limits.memory_bytes
        limit = "the machine has" if most is None else f"the limit of {most / 2**30:.3g} GiB (unit_memory)"
        return MemoryError(f"reading needs more memory than {limit}")


def group_small_files(pieces: Sequence[Piece], threads: int) -> Iterator[list[Piece]]:
    """Yield the pieces in order, small files in groups: a call takes as long as reading one of them."""
    most = max(1, min(MAX_FILES_PER_CALL, len(pieces) // (4 * threads)))
    for small, run in groupby(pieces, lambda piece: piece.begin is None and piece.size <= SMALL_FILE_BYTES):
        while group := list(islice(run, most if small else 1)):
            yield group


def quarantine_rest(loader: Loader, piece: Piece, first: int, error: Exception) -> Iterator[Quarantined | None]:
    """Yield the units of a piece from number `first` on as quarantined, or None for those that were predicted before.

    One stands for all of them if their number is unknown.
    """
    uri = loader.inputs.uri_of(piece.key)
    count = piece.units if piece.units is not None else first + 1
    if piece.most is not None:
        count = min(count, piece.most)
    for number in range(first, count):
        unit_id = _unit_id(piece, number)
        done = unit_id in loader.done
        yield None if done else quarantine_record(unit_id, uri, "load", error, attempts=MAX_ATTEMPTS)


def seconds_per_unit(limits: ResourceLimits, piece: Piece) -> float:
    """Return the time limit of reading a unit; a compressed file must be read from its beginning to get there."""
    return limits.seconds + (piece.size / MIN_BYTES_PER_SECOND if compression_by_name(piece.key) else 0.0)


def _unit_id(piece: Piece, number: int) -> str:
    """Return the id of a unit of which only the place in its piece is known: its row if the piece counts rows."""
    if piece.begin is None:
        return piece.key if number == 0 else f"{piece.key}#+{number}"
    at = (piece.skip or 0) + number
    if piece.video_begin is not None:
        return f"{piece.key}#{piece.begin}@{piece.video_begin}+{at}"
    return f"{piece.key}#{piece.begin + at}" if piece.units is not None else f"{piece.key}#{piece.begin}+{at}"


def _read_batches(loader: Loader, pieces: Sequence[Piece], attempt: int) -> Iterator[ResultBatch]:
    """In the sandbox: yield the results of the pieces in batches, each result with the number of its piece."""
    return batched(
        (number, step)
        for number, piece in enumerate(pieces)
        for step in read_steps(loader, piece, attempt)
        if isinstance(step, UnitResult)
    )
