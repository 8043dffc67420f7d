"""load: a shard's pieces, read and transformed to arrays. A unit that fails is quarantined; its neighbours are not."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.heads.base import Head
from pipeline.heads.latents import latents_of
from pipeline.runtime.packing import array_columns, pack
from pipeline.runtime.quarantine import quarantined, to_table
from pipeline.runtime.retry import TRIES, patiently, pause
from pipeline.runtime.segments import pieces_of, read_plan_file
from pipeline.sinks.parts import Quarantined
from pipeline.sinks.schema import large
from pipeline.sources.base import Piece, Source, Unit
from pipeline.storage import AccessError, StorageError, Store, redact

KEPT = "kept."  # prefix of the columns that rows carry along
LATENTS = "latents"  # the array of a unit that was encoded before
THREADS = 8  # reads in flight: a shard of small objects waits for the store, not for the CPU


@dataclass(frozen=True, kw_only=True)
class Loader:
    """What a load task needs. Small: stores connect when they are first used."""

    inputs: Store
    output: Store
    source: Source
    head: Head
    kept: pa.Schema = field(default_factory=lambda: pa.schema([]))
    stored: bool = False  # units are rows with latents
    threads: int = THREADS

    def arrays(self, medium: Any) -> dict[str, np.ndarray]:
        """What travels of a medium; of a row with latents, those and what decoding them needs beside."""
        if not self.stored:
            return self.head.transform(medium)
        return {LATENTS: latents_of(medium), **self.head.restore(medium)}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A unit and its arrays."""

    unit: Unit
    arrays: dict[str, np.ndarray]


def load(table: pa.Table, *, loader: Loader) -> pa.Table:
    """The packed shard of one plan row {file, sha256, row, shard}, its units in plan order.

    Where INPUT can no longer be accessed at all the shard comes out empty with the scalar `fatal`, which ends the run.
    """
    started = time.perf_counter()
    planned = table.to_pylist()[0]
    plan = _plan_file(loader.output, planned["file"], planned["sha256"])
    row = plan.slice(planned["row"], 1).to_pylist()[0]
    scalars = {"shard": row["shard"], "segment": row["segment"], "plan": planned["sha256"], "fatal": ""}
    try:
        results = list(read(loader, pieces_of(row)))
    except AccessError as error:
        results, scalars["fatal"] = [], redact(str(error))
    units, failed = to_tables(results, loader.kept)
    return pack(units, failed, scalars | {"seconds_load": time.perf_counter() - started})


def to_tables(results: list[Loaded | Quarantined], kept: pa.Schema) -> tuple[pa.Table, pa.Table]:
    """Units {id, uri, version, kept columns, arrays} and quarantined, as `pack` takes them."""
    units = [result for result in results if isinstance(result, Loaded)]
    failed = [result for result in results if isinstance(result, Quarantined)]
    columns = {name: [getattr(loaded.unit, name) for loaded in units] for name in ("id", "uri", "version")}
    strings = {name: pa.array(values, pa.large_string()) for name, values in columns.items()}
    for column in kept:
        values = [loaded.unit.kept.get(column.name) for loaded in units]
        strings[KEPT + column.name] = _kept(values, column.type)
    names = units[0].arrays if units else ()
    arrays = array_columns({name: [loaded.arrays[name] for loaded in units] for name in names})
    return pa.table(strings | arrays), to_table(failed)


def _kept(values: list[Any], kind: pa.DataType) -> pa.Array:
    """A kept column, of Python's values and of Arrow's where Python has none as exact."""
    if not any(isinstance(value, pa.Scalar) for value in values):
        return pa.array(values, large(kind))
    arrays = [
        pa.repeat(value, 1).cast(large(kind)) if isinstance(value, pa.Scalar) else pa.array([value], large(kind))
        for value in values
    ]
    return pa.concat_arrays(arrays)


def read(loader: Loader, pieces: list[Piece]) -> Iterator[Loaded | Quarantined]:
    """Every unit of the pieces in their order, read in parallel; a medium is let go as soon as it is transformed."""
    with ThreadPoolExecutor(min(loader.threads, len(pieces))) as pool:
        for results in pool.map(functools.partial(_read_piece, loader), pieces):
            yield from results


def _read_piece(loader: Loader, piece: Piece) -> list[Loaded | Quarantined]:
    """The units of one piece; it is read again, some time later, where its store had an error that passes."""
    for attempt in range(1, TRIES + 1):
        units = list(_transformed(loader, piece, attempt))
        if not any(_passing(error) for _, error in units):
            break
        if attempt < TRIES:
            pause(attempt)
    results = [result for result, _ in units]
    if piece.units is not None and len(results) != piece.units:
        raise RuntimeError(f"{piece.key}: {piece.units} units were planned, the source gave {len(results)}")
    return results


def _transformed(
    loader: Loader, piece: Piece, attempt: int
) -> Iterator[tuple[Loaded | Quarantined, BaseException | None]]:
    """Each unit of the piece, with its error where it has one."""
    try:
        skip = piece.skip or 0
        last = None if piece.most is None else skip + piece.most
        for unit in islice(loader.source.units(loader.inputs, piece), skip, last):
            yield _transform(loader, unit, attempt)
    except AccessError:
        raise
    except Exception as error:  # noqa: BLE001 - a piece whose source fails stands in quarantine as one unit
        yield quarantined(piece.key, loader.inputs.uri_of(piece.key), "load", error, attempts=attempt), error


def _transform(loader: Loader, unit: Unit, attempt: int) -> tuple[Loaded | Quarantined, BaseException | None]:
    if unit.error is not None:
        return quarantined(unit.id, unit.uri, "load", unit.error, attempts=attempt), unit.error
    try:
        return Loaded(unit=unit, arrays=loader.arrays(unit.medium)), None
    except Exception as error:  # noqa: BLE001 - whatever a transform raises, this unit is quarantined for it
        return quarantined(unit.id, unit.uri, "transform", error, attempts=attempt), error
    finally:
        unit.medium = None


def _passing(error: BaseException | None) -> bool:
    return isinstance(error, StorageError) and error.transient


@functools.lru_cache(maxsize=2)
def _plan_file(output: Store, name: str, sha256: str) -> pa.Table:
    """A plan file. A task's shards lie in one file, and a worker process gets neighbouring tasks."""
    return patiently(lambda: read_plan_file(output, name, sha256))
