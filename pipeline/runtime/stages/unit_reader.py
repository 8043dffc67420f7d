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
from pipeline.runtime.records.quarantine import quarantined
from pipeline.sandbox import Limits, short_of_memory
from pipeline.sinks.parts import Quarantined
from pipeline.sources.source import Piece, Source, Unit
from pipeline.storage import AccessError, StorageError, Store

LATENTS = "latents"  # the array of a unit that was encoded before
THREADS = 8  # reads in flight: a shard of small objects waits for the store, not for the CPU
LEAST_ROOM, ROOM = 64 << 20, 8  # bytes that a film's piece may have in any case, and times what it was planned with


@dataclass(frozen=True, kw_only=True)
class Loader:
    """What a load task needs. Small: stores connect when they are first used.

    limits: of reading one unit, which is then done in a child process; None reads in the task's own. given_up: nothing
    is read, as each attempt at it has ended a process. done: ids of units that an earlier shard has predicted.
    """

    inputs: Store
    output: Store
    source: Source
    head: Head
    run: str = ""  # whose parts tell what is done
    kept: pa.Schema = field(default_factory=lambda: pa.schema([]))
    stored: bool = False  # units are rows with latents
    threads: int = THREADS
    limits: Limits | None = None
    given_up: bool = False
    done: frozenset[str] = frozenset()

    def arrays(self, medium: Any) -> dict[str, np.ndarray]:
        """What travels of a medium; of a row with latents, those and what decoding them needs beside."""
        if not self.stored:
            return self.head.transform(medium)
        return {LATENTS: latents_from_row(medium), **self.head.arrays_from_row(medium)}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A unit and its arrays."""

    unit: Unit
    arrays: dict[str, np.ndarray]


class Trouble(Enum):
    """Why a unit may be had when it is read once more. PASSING: its store failed for now. MEMORY: there was too little,
    of which others may have taken their part."""

    PASSING = "passing"
    MEMORY = "memory"


class Found(NamedTuple):
    """What became of a unit; None of one that is done."""

    result: Loaded | Quarantined | None
    trouble: Trouble | None = None

    @property
    def nbytes(self) -> int:
        """Of its arrays."""
        return sum(array.nbytes for array in self.result.arrays.values()) if isinstance(self.result, Loaded) else 0


class Begun(NamedTuple):
    """A unit that is about to be decoded."""

    id: str
    uri: str


def found_in(loader: Loader, piece: Piece, attempt: int) -> Iterator[Found]:
    """What becomes of each unit of a piece."""
    return (found for found in step_by_step(loader, piece, attempt) if isinstance(found, Found))


def step_by_step(loader: Loader, piece: Piece, attempt: int, first: int = 0) -> Iterator[Begun | Found]:
    """The units of a piece from its `first` on, each said to be begun before anything of it is decoded."""
    skip = piece.skip or 0
    last = None if piece.most is None else skip + piece.most
    most = room = room_of(piece)
    try:
        for unit in islice(loader.source.units(loader.inputs, piece), skip + first, last):
            if unit.id in loader.done:
                yield Found(None)
                continue
            yield Begun(unit.id, unit.uri)
            reached("load.unit")
            if room < 0:
                yield Found(quarantined(unit.id, unit.uri, "load", TooMuch(most), attempts=attempt))
                return
            found = _transformed(loader, unit, attempt)
            room -= found.nbytes
            yield found
    except AccessError:
        raise
    except Exception as error:  # noqa: BLE001 - a piece whose source fails stands in quarantine as one unit
        uri = loader.inputs.uri_of(piece.key)
        yield Found(quarantined(piece.key, uri, "load", error, attempts=attempt), _trouble(error))


class TooMuch(BadMedium):
    """A piece gives many times what it was planned with."""

    def __init__(self, most: float) -> None:
        super().__init__(
            f"the file goes on for much longer than it says: more than {most / 2**20:,.0f} MiB of units. This one and "
            "those behind it are not read"
        )


def room_of(piece: Piece) -> float:
    """Bytes of arrays that a piece of a film may give: one of a second may say that a day lies between two of its
    frames. Units of other pieces are each there, in so many bytes of the file, however little they are once read."""
    if piece.units is not None or piece.weight is None:
        return float("inf")
    return max(LEAST_ROOM, ROOM * piece.weight)


def _transformed(loader: Loader, unit: Unit, attempt: int) -> Found:
    if (error := unit.error) is not None:
        return Found(quarantined(unit.id, unit.uri, "load", error, attempts=attempt), _trouble(error))
    try:
        return Found(Loaded(unit=unit, arrays=loader.arrays(unit.medium)))
    except Exception as failure:  # noqa: BLE001 - whatever a transform raises, this unit is quarantined for it
        return Found(quarantined(unit.id, unit.uri, "transform", failure, attempts=attempt), _trouble(failure))
    finally:
        unit.medium = None


def _trouble(error: Exception) -> Trouble | None:
    if isinstance(error, StorageError) and error.transient:
        return Trouble.PASSING
    return Trouble.MEMORY if short_of_memory(error) else None
