"""Read the units of a piece: the arrays of each unit, or the reason why it is quarantined."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.faultpoints import reached
from pipeline.heads.head import Head
from pipeline.heads.latent_columns import latents_from_row
from pipeline.media import BadMedium
from pipeline.runtime.records.quarantine import quarantine_record
from pipeline.runtime.stages.known_labels import KnownLabels
from pipeline.runtime.stages.shard_format import LATENTS_ARRAY
from pipeline.sandbox import ResourceLimits, Started, is_memory_shortage
from pipeline.sinks.parts import Quarantined
from pipeline.sources.source import Piece, Source, Unit
from pipeline.storage import StorageError, Store, is_access_lost

READ_THREADS = 8  # reads in flight: a shard of small objects waits for the store, not for the CPU
# Bytes of arrays of a piece of a video: at least the first, and at most the second times its planned weight.
MIN_PIECE_BUDGET_BYTES, PIECE_BUDGET_FACTOR = 64 << 20, 8


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Configuration of a load task. Small: stores connect when they are first used.

    run: The run whose parts hold the units of earlier shards. kept: Schema of the kept columns. labels: Where known
    labels, a column of `kept`, come from; None without them. stored: Units are rows with latents of an earlier run.
    witness: Key of a file that could be read when the run began. limits: Limits of reading one unit in a sandbox; None
    reads in the task's process. abandoned: Quarantine all units unread, as each attempt crashed a process. done: Ids of
    units predicted or, for a plan that was rebuilt, quarantined before.
    """

    inputs: Store
    output: Store
    source: Source
    head: Head
    run: str = ""
    kept: pa.Schema = field(default_factory=lambda: pa.schema([]))
    labels: KnownLabels | None = None
    stored: bool = False
    witness: str = ""
    threads: int = READ_THREADS
    limits: ResourceLimits | None = None
    abandoned: bool = False
    done: frozenset[str] = frozenset()

    @property
    def known_labels(self) -> Callable[[list[Unit]], pa.Array] | None:
        """What returns the known labels of units, None if they have none."""
        return None if self.labels is None else partial(self.labels.of, inputs=self.inputs, output=self.output)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A unit and its arrays."""

    unit: Unit
    arrays: dict[str, np.ndarray]


class UnitResult(NamedTuple):
    """A unit that was read or is quarantined, or None for one that was predicted before.

    transient: Whether storage failed, so that reading the unit again may succeed.
    """

    result: Loaded | Quarantined | None
    transient: bool = False

    @property
    def nbytes(self) -> int:
        """Size of the unit's arrays in bytes."""
        return sum(array.nbytes for array in self.result.arrays.values()) if isinstance(self.result, Loaded) else 0


def read_steps(loader: Loader, piece: Piece, attempt: int, first: int = 0) -> Iterator[Started | UnitResult]:
    """Yield `Started((id, uri))` and then the result of each unit of a piece from number `first` on.

    In a sandbox, raise MemoryError if memory was short, which other units may have used up.
    """
    skip = piece.skip or 0
    last = None if piece.most is None else skip + piece.most
    budget = left = byte_budget(piece)
    try:
        for unit in islice(loader.source.units(loader.inputs, piece), skip + first, last):
            if unit.id in loader.done:
                yield UnitResult(None)
                continue
            yield Started((unit.id, unit.uri))
            reached("load.unit")
            if left < 0:
                yield _quarantined(loader, unit.id, unit.uri, "load", TooMuch(budget), attempt)
                return
            result = _read(loader, unit, attempt)
            left -= result.nbytes
            yield result
    except Exception as error:  # a piece whose source fails is quarantined as one unit
        if is_access_lost(error):
            raise
        if piece.key in loader.done:
            yield UnitResult(None)
            return
        yield _quarantined(loader, piece.key, loader.inputs.uri_of(piece.key), "load", error, attempt)


class TooMuch(BadMedium):
    """A piece has many times the bytes that it was planned with."""

    def __init__(self, budget: float) -> None:
        super().__init__(
            f"the file is much longer than its header says: its units take more than {budget / 2**20:,.0f} MiB. This "
            "unit and all units after it were not read"
        )


def byte_budget(piece: Piece) -> float:
    """Return the bytes of arrays that a piece may have.

    A damaged video of one second may claim that a day lies between two of its frames. The units of other pieces each
    take bytes of the file, so that their number is bounded.
    """
    if piece.units is not None or piece.weight is None:
        return float("inf")
    return max(MIN_PIECE_BUDGET_BYTES, PIECE_BUDGET_FACTOR * piece.weight)


def _read(loader: Loader, unit: Unit, attempt: int) -> UnitResult:
    stage = "load"
    try:
        medium = unit.decode()
        stage = "transform"
        if loader.stored:  # the medium is a row with latents
            arrays = {LATENTS_ARRAY: latents_from_row(medium), **loader.head.arrays_from_row(medium)}
        else:
            arrays = loader.head.transform(medium)
    except Exception as error:
        if stage == "load" and is_access_lost(error):
            raise
        return _quarantined(loader, unit.id, unit.uri, stage, error, attempt)
    return UnitResult(Loaded(unit=unit, arrays=arrays))


def _quarantined(loader: Loader, unit_id: str, uri: str, stage: str, error: Exception, attempt: int) -> UnitResult:
    transient = isinstance(error, StorageError) and error.transient
    if loader.limits is not None and not transient and is_memory_shortage(error):
        error.__traceback__ = error.__cause__ = error.__context__ = None  # their frames hold memory
        raise MemoryError(str(error))
    return UnitResult(quarantine_record(unit_id, uri, stage, error, attempts=attempt), transient)
