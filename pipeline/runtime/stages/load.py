"""load: a shard's pieces, read and transformed to arrays. A unit that fails is quarantined; its neighbours are not."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pyarrow as pa

from pipeline import faultpoints
from pipeline.runtime.plan.plan_files import pieces_in_row, read_plan_file
from pipeline.runtime.records.quarantine import quarantine_table
from pipeline.runtime.stages.given_up import GivenUp
from pipeline.runtime.stages.isolated_reader import IsolatedReader, quarantine_rest
from pipeline.runtime.stages.shard_format import pack, pack_arrays
from pipeline.runtime.stages.unit_reader import (
    LATENTS_ARRAY,
    READ_THREADS,
    Loaded,
    Loader,
    RetryReason,
    UnitResult,
    unit_results,
)
from pipeline.sandbox import ResourceLimits
from pipeline.sinks.parts import Quarantined, predicted_ids
from pipeline.sinks.schema import to_large_type
from pipeline.sources.source import Piece
from pipeline.storage import AccessError, Store, redact

__all__ = [
    "DEFAULT_UNIT_LIMITS",
    "KEPT_PREFIX",
    "LATENTS_ARRAY",
    "READ_THREADS",
    "Loaded",
    "Loader",
    "load",
    "read",
    "to_tables",
]

KEPT_PREFIX = "kept."  # prefix of the columns that rows carry along
DEFAULT_UNIT_LIMITS = ResourceLimits(seconds=300.0, memory_bytes=4 << 30)  # of a unit, where nobody says otherwise


def load(table: pa.Table, *, loader: Loader) -> pa.Table:
    """The packed shard of one plan row {file, sha256, row, shard}, its units in plan order.

    Where INPUT can no longer be accessed at all the shard comes out empty with the scalar `fatal`, which ends the run.
    """
    faultpoints.reached("load.begin")
    started = time.perf_counter()
    planned = table.to_pylist()[0]
    plan = _plan_file(loader.output, planned["file"], planned["sha256"])
    row = plan.slice(planned["row"], 1).to_pylist()[0]
    scalars = {"shard": row["shard"], "segment": row["segment"], "plan": planned["sha256"], "fatal": ""}
    scalars["replaces"] = row["replaces"]
    try:
        results = list(read(_without_done(loader, row), pieces_in_row(row)))
    except AccessError as error:
        results, scalars["fatal"] = [], redact(str(error))
    units, failed = to_tables(results, loader.kept)
    faultpoints.reached("load.end")
    return pack(units, failed, scalars | {"seconds_load": time.perf_counter() - started})


def _without_done(loader: Loader, row: dict[str, Any]) -> Loader:
    """The loader of this shard: of one that is a second chance it leaves out what was predicted at the first."""
    before = {shard for shards in row["again"] or () for shard in shards}
    return replace(loader, done=predicted_ids(loader.output, loader.run, before)) if before else loader


def to_tables(results: list[Loaded | Quarantined], kept: pa.Schema) -> tuple[pa.Table, pa.Table]:
    """Units {id, uri, version, kept columns, arrays} and quarantined, as `pack` takes them."""
    units = [result for result in results if isinstance(result, Loaded)]
    failed = [result for result in results if isinstance(result, Quarantined)]
    columns = {name: [getattr(loaded.unit, name) for loaded in units] for name in ("id", "uri", "version")}
    strings = {name: pa.array(values, pa.large_string()) for name, values in columns.items()}
    for column in kept:
        values = [loaded.unit.kept.get(column.name) for loaded in units]
        strings[KEPT_PREFIX + column.name] = _kept(values, column.type)
    names = units[0].arrays if units else ()
    arrays = pack_arrays({name: [loaded.arrays[name] for loaded in units] for name in names})
    return pa.table(strings | arrays), quarantine_table(failed)


def _kept(values: list[Any], kind: pa.DataType) -> pa.Array:
    """A kept column, of Python's values and of Arrow's where Python has none as exact."""
    if not any(isinstance(value, pa.Scalar) for value in values):
        return pa.array(values, to_large_type(kind))
    large = to_large_type(kind)
    arrays = [
        pa.repeat(value, 1).cast(large) if isinstance(value, pa.Scalar) else pa.array([value], large)
        for value in values
    ]
    return pa.concat_arrays(arrays)


def read(loader: Loader, pieces: list[Piece]) -> Iterator[Loaded | Quarantined]:
    """Every unit of the pieces in their order, read in parallel; a medium is let go as soon as it is transformed."""
    with _reader(loader) as reader:
        groups = list(reader.groups(pieces))
        with ThreadPoolExecutor(min(loader.threads, len(groups))) as pool:
            for results in pool.map(functools.partial(_insist, reader), groups):
                yield from results


class Reader(Protocol):
    """A way to read pieces."""

    def groups(self, pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
        """The pieces in their order, those together that are best read one after another."""

    def read(self, pieces: Sequence[Piece], attempt: int) -> list[list[UnitResult]]:
        """What becomes of the units of each piece, in an attempt of that number."""


def _reader(loader: Loader) -> AbstractContextManager[Reader]:
    careful = loader.limits is not None and not loader.abandoned
    return IsolatedReader(loader) if careful else nullcontext(DirectReader(loader))


@dataclass(frozen=True)
class DirectReader:
    """Reads in this process, or not at all where that is given up."""

    loader: Loader

    def groups(self, pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
        """Each by itself."""
        return ([piece] for piece in pieces)

    def read(self, pieces: Sequence[Piece], attempt: int) -> list[list[UnitResult]]:
        """What becomes of the units of each piece."""
        if self.loader.abandoned:
            return [list(quarantine_rest(self.loader, piece, 0, GivenUp())) for piece in pieces]
        return [list(unit_results(self.loader, piece, attempt)) for piece in pieces]


def _insist(reader: Reader, group: Sequence[Piece]) -> list[Loaded | Quarantined]:
    """The units of some pieces; one is read once more where its store had an error that passes, which its own patience
    did not outlast."""
    results: list[Loaded | Quarantined] = []
    for piece, found in zip(group, reader.read(group, 1), strict=True):
        if any(each.trouble is RetryReason.TRANSIENT for each in found):
            (found,) = reader.read([piece], 2)
        if piece.units is not None and len(found) != piece.units:
            raise RuntimeError(f"{piece.key}: {piece.units} units were planned, the source gave {len(found)}")
        results += [each.result for each in found if each.result is not None]
    return results


@functools.lru_cache(maxsize=2)
def _plan_file(output: Store, name: str, sha256: str) -> pa.Table:
    """A plan file. A task's shards lie in one file, and a worker process gets neighbouring tasks."""
    return read_plan_file(output, name, sha256)
