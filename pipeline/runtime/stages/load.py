"""load: read the pieces of a shard and transform their units to arrays. A unit that fails is quarantined alone."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import Any, TypeAlias

import pyarrow as pa

from pipeline import faultpoints
from pipeline.formatting import counted
from pipeline.heads.head import ColumnType
from pipeline.runtime.plan.plan_files import pieces_in_row, read_plan_file
from pipeline.runtime.records.quarantine import quarantine_table
from pipeline.runtime.stages.isolated_reader import IsolatedReader, group_small_files, quarantine_rest
from pipeline.runtime.stages.known_labels import KNOWN_LABEL
from pipeline.runtime.stages.output_table import assemble_rows
from pipeline.runtime.stages.shard_format import KEPT_PREFIX, pack, pack_arrays, unpack
from pipeline.runtime.stages.unit_reader import Loaded, Loader, UnitResult, read_steps
from pipeline.sandbox import ResourceLimits
from pipeline.sinks.parts import Quarantined, ids_of_parts
from pipeline.sinks.schema import to_large_type
from pipeline.sources.access import DENIED, check_witness
from pipeline.sources.source import Piece, Unit
from pipeline.storage import AccessError, redact

DEFAULT_UNIT_LIMITS = ResourceLimits(seconds=300.0, memory_bytes=4 << 30)

# A task's shards are in one plan file, and a worker process gets neighbouring tasks.
_plan_file = lru_cache(maxsize=2)(read_plan_file)

ReadPieces: TypeAlias = Callable[[Sequence[Piece], int], list[list[UnitResult]]]
"""Reads pieces, in an attempt of that number: the results of the units of each piece."""


class GivenUp(Exception):  # noqa: N818 - recorded in quarantine under this name
    """A shard crashed its processes in every pass, and the unit that does it is unknown."""

    def __init__(self) -> None:
        super().__init__("a unit of its shard crashed the worker in every attempt, and it is not known which unit")


def load(table: pa.Table, *, loader: Loader) -> pa.Table:
    """Return the packed shard of one plan row {file, sha256, row, shard}, its units in plan order.

    If the plan file was changed, or INPUT can no longer be accessed at all, the shard is empty and has the scalar
    `fatal`, which ends the run. INPUT is lost if a unit is denied, and so is a file that could be read when it began.
    """
    faultpoints.reached("load.begin")
    started = time.perf_counter()
    planned = table.to_pylist()[0]
    scalars = {"shard": planned["shard"], "segment": 0, "replaces": 0, "plan": planned["sha256"], "fatal": ""}
    try:
        plan = _plan_file(loader.output, planned["file"], planned["sha256"])
        row = plan.slice(planned["row"], 1).to_pylist()[0]
        scalars |= {name: row[name] for name in ("segment", "replaces")}
        if again := row["again"]:  # read before: retried, or planned again after the plan was lost
            shards, is_retry = set(chain(*again)), bool(row["replaces"]) and not row.get("supersedes")
            loader = replace(loader, done=ids_of_parts(loader.output, loader.run, shards, quarantined=not is_retry))
        results = list(read(loader, pieces_in_row(row)))
        if any(isinstance(result, Quarantined) and result.error in DENIED for result in results):
            check_witness(loader.inputs, loader.witness)
    except AccessError as error:
        results, scalars["fatal"] = [], redact(str(error))
    units, failed = to_tables(results, loader.kept, loader.known_labels)
    faultpoints.reached("load.end")
    return pack(units, failed, scalars | {"seconds_load": time.perf_counter() - started})


def to_tables(
    results: list[Loaded | Quarantined], kept: pa.Schema, known_labels: Callable[[list[Unit]], pa.Array] | None = None
) -> tuple[pa.Table, pa.Table]:
    """Return the units {id, uri, version, kept columns, arrays} and the quarantined units, as `pack` takes them.

    known_labels: returns the values of the kept column `known_label`, if there is one.
    """
    units = [result for result in results if isinstance(result, Loaded)]
    failed = [result for result in results if isinstance(result, Quarantined)]
    columns = {name: [getattr(loaded.unit, name) for loaded in units] for name in ("id", "uri", "version")}
    strings = {name: pa.array(values, pa.large_string()) for name, values in columns.items()}
    for column in kept:
        if known_labels is not None and column.name == KNOWN_LABEL:
            strings[KEPT_PREFIX + KNOWN_LABEL] = known_labels([loaded.unit for loaded in units]).cast(pa.large_string())
            continue
        values = [loaded.unit.kept.get(column.name) for loaded in units]
        strings[KEPT_PREFIX + column.name] = _kept(values, column.type)
    names = units[0].arrays if units else ()
    arrays = pack_arrays({name: [loaded.arrays[name] for loaded in units] for name in names})
    return pa.table(strings | arrays), quarantine_table(failed)


def _kept(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Return a kept column of Python values and, for types that Python cannot represent exactly, Arrow scalars."""
    large = to_large_type(kind)
    if not any(isinstance(value, pa.Scalar) for value in values):
        return pa.array(values, large)
    arrays = (pa.repeat(one, 1).cast(large) if isinstance(one, pa.Scalar) else pa.array([one], large) for one in values)
    return pa.concat_arrays(arrays)


def read(loader: Loader, pieces: list[Piece]) -> Iterator[Loaded | Quarantined]:
    """Yield every unit of the pieces in order, read in parallel; a medium is freed as soon as it is transformed."""
    if not pieces:  # of a shard whose part was lost with the plan
        return
    groups = list(group_small_files(pieces, loader.threads))
    with _reader(loader) as read_pieces, ThreadPoolExecutor(min(loader.threads, len(groups))) as pool:
        for results in pool.map(lambda group: _read_group(read_pieces, group), groups):
            yield from results


@contextmanager
def _reader(loader: Loader) -> Iterator[ReadPieces]:
    """Yield how pieces are read: not at all, in a sandbox, or in this process."""
    if loader.abandoned:
        yield lambda pieces, _: [
            [UnitResult(unit) for unit in quarantine_rest(loader, piece, 0, GivenUp())] for piece in pieces
        ]
    elif loader.limits is not None:
        with closing(IsolatedReader(loader)) as reader:
            yield reader.read
    else:
        yield lambda pieces, attempt: [
            [step for step in read_steps(loader, piece, attempt) if isinstance(step, UnitResult)] for piece in pieces
        ]


def _read_group(read_pieces: ReadPieces, pieces: Sequence[Piece]) -> list[Loaded | Quarantined]:
    """Return the units of some pieces; read a piece again if storage failed longer than its own retries lasted."""
    units: list[Loaded | Quarantined] = []
    for piece, results in zip(pieces, read_pieces(pieces, 1), strict=True):
        if any(each.transient for each in results):
            (results,) = read_pieces([piece], 2)
        if piece.units is not None and len(results) != piece.units:
            raise RuntimeError(
                f"{piece.key}: the plan has {counted(piece.units, 'unit')} of it, but reading gave {len(results)}"
            )
        units += [_with_key(each.result, piece.key) for each in results if each.result is not None]
    return units


def _with_key(unit: Loaded | Quarantined, key: str) -> Loaded | Quarantined:
    """Return a unit, if it is quarantined with the key of its file: a retry reads the file again."""
    return replace(unit, key=key) if isinstance(unit, Quarantined) else unit


def skip_predict(row: pa.Table, *, columns: Mapping[str, ColumnType]) -> pa.Table:
    """Return a packed shard of no rows, as `write` takes it, from an abandoned one of which no unit was read."""
    units, failed, scalars = unpack(row)
    rows = assemble_rows(units, [], columns, scalars["segment"])
    return pack(rows, failed, scalars | {"seconds_predict": 0.0})
