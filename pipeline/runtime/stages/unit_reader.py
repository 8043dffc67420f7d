"""What is made of a piece, in whichever process it is read: arrays of its units, and those that cannot be had."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.faultpoints import reached
from pipeline.heads.head import Head
from pipeline.heads.latent_columns import latents_from_row
from pipeline.media import BadMedium
from pipeline.runtime.records.quarantine import quarantine_record
from pipeline.sandbox import ResourceLimits, is_memory_shortage
from pipeline.sinks.parts import Quarantined
from pipeline.sources.source import Piece, Source, Unit
from pipeline.storage import AccessError, StorageError, Store

LATENTS_ARRAY = "latents"  # the array of a unit that was encoded before
READ_THREADS = 8  # reads in flight: a shard of small objects waits for the store, not for the CPU
# Bytes of arrays that a piece of a video may have: so many in any case, and at most so many times its planned weight.
MIN_PIECE_BUDGET_BYTES, PIECE_BUDGET_FACTOR = 64 << 20, 8


@dataclass(frozen=True, kw_only=True)
class Loader:
    """What a load task needs. Small: stores connect when they are first used.

    limits: of reading one unit, which is then done in a child process; None reads in the task's own. abandoned: nothing
    is read, as each attempt at it has ended a process. done: ids of units that an earlier shard has predicted.
    """

    inputs: Store
    output: Store
    source: Source
    head: Head
    run: str = ""  # whose parts tell what is done
    kept: pa.Schema = field(default_factory=lambda: pa.schema([]))
    stored: bool = False  # units are rows with latents
    threads: int = READ_THREADS
    limits: ResourceLimits | None = None
    abandoned: bool = False
    done: frozenset[str] = frozenset()

    def arrays(self, medium: Any) -> dict[str, np.ndarray]:
        """What travels of a medium; of a row with latents, those and what decoding them needs beside."""
        if not self.stored:
            return self.head.transform(medium)
        return {LATENTS_ARRAY: latents_from_row(medium), **self.head.arrays_from_row(medium)}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A unit and its arrays."""

    unit: Unit
    arrays: dict[str, np.ndarray]


class RetryReason(Enum):
    """Why reading a unit again may succeed: a transient storage error, or memory that other units may have used up."""

    TRANSIENT = "passing"
    MEMORY = "memory"


class UnitResult(NamedTuple):
    """What became of a unit; None of one that is done."""

    result: Loaded | Quarantined | None
    trouble: RetryReason | None = None

    @property
    def nbytes(self) -> int:
        """Of its arrays."""
        return sum(array.nbytes for array in self.result.arrays.values()) if isinstance(self.result, Loaded) else 0


class UnitStarted(NamedTuple):
    """A unit that is about to be decoded."""

    id: str
    uri: str


def unit_results(loader: Loader, piece: Piece, attempt: int) -> Iterator[UnitResult]:
    """What becomes of each unit of a piece."""
    return (found for found in read_steps(loader, piece, attempt) if isinstance(found, UnitResult))


def read_steps(loader: Loader, piece: Piece, attempt: int, first: int = 0) -> Iterator[UnitStarted | UnitResult]:
    """The units of a piece from its `first` on, each said to be begun before anything of it is decoded."""
    skip = piece.skip or 0
    last = None if piece.most is None else skip + piece.most
    most = room = byte_budget(piece)
    try:
        for unit in islice(loader.source.units(loader.inputs, piece), skip + first, last):
            if unit.id in loader.done:
                yield UnitResult(None)
                continue
            yield UnitStarted(unit.id, unit.uri)
            reached("load.unit")
            if room < 0:
                yield UnitResult(quarantine_record(unit.id, unit.uri, "load", TooMuch(most), attempts=attempt))
                return
            found = _transformed(loader, unit, attempt)
            room -= found.nbytes
            yield found
    except AccessError:
        raise
    except Exception as error:  # noqa: BLE001 - a piece whose source fails stands in quarantine as one unit
        uri = loader.inputs.uri_of(piece.key)
        yield UnitResult(quarantine_record(piece.key, uri, "load", error, attempts=attempt), _trouble(error))


class TooMuch(BadMedium):
    """A piece gives many times what it was planned with."""

    def __init__(self, most: float) -> None:
        super().__init__(
            f"the file goes on for much longer than it says: more than {most / 2**20:,.0f} MiB of units. This one and "
            "those behind it are not read"
        )


def byte_budget(piece: Piece) -> float:
    """Bytes of arrays that a piece of a film may give: one of a second may say that a day lies between two of its
    frames. Units of other pieces are each there, in so many bytes of the file, however little they are once read."""
    if piece.units is not None or piece.weight is None:
        return float("inf")
    return max(MIN_PIECE_BUDGET_BYTES, PIECE_BUDGET_FACTOR * piece.weight)


def _transformed(loader: Loader, unit: Unit, attempt: int) -> UnitResult:
    try:
        medium = unit.decode()
    except AccessError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders and stores raise anything: it costs this unit only
        return UnitResult(quarantine_record(unit.id, unit.uri, "load", error, attempts=attempt), _trouble(error))
    try:
        return UnitResult(Loaded(unit=unit, arrays=loader.arrays(medium)))
    except Exception as error:  # noqa: BLE001 - whatever a transform raises, this unit is quarantined for it
        return UnitResult(quarantine_record(unit.id, unit.uri, "transform", error, attempts=attempt), _trouble(error))


def _trouble(error: Exception) -> RetryReason | None:
    if isinstance(error, StorageError) and error.transient:
        return RetryReason.TRANSIENT
    return RetryReason.MEMORY if is_memory_shortage(error) else None
