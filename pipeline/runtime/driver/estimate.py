"""Estimate of a run: freeze the plan, measure a sample of its units on the cluster, extrapolate."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from pipeline.runtime.driver.prepare import prepare_run
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.plan_files import pieces_in_row, read_plan_file
from pipeline.runtime.plan.planner import Plan
from pipeline.runtime.ray_backend.dataset import StageConfig
from pipeline.runtime.ray_backend.remote_call import call_with_replica_resources
from pipeline.runtime.records.committed import committed_shards
from pipeline.runtime.records.quarantine import records_in_table
from pipeline.runtime.stages.load import read, to_tables
from pipeline.runtime.stages.predict import Replica
from pipeline.runtime.stages.shard_format import pack, unpack
from pipeline.runtime.stages.unit_reader import Loaded, Loader
from pipeline.sinks.parts import Footer, Quarantined, encode_part
from pipeline.sources.source import Piece
from pipeline.storage import Store

BATCHES = 3  # measured micro-batches, and one more for a full pipeline
SECONDS = 30.0  # approximate limit for predicting the sample
MOST_PIECES = 64


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A frozen plan with estimated time and size.

    `units` is None if only opening the inputs tells; `estimated_units` is then a guess from the inputs, or 0, and
    `seconds` and `bytes` follow from it, or are None. `load_seconds` and `predict_seconds`: of one unit in one task and
    one replica, measured on `sample` units. `seconds`: of the remaining shards on this cluster. `bytes`: of all parts.
    """

    run: str
    segments: int
    shards: int
    shards_done: int
    units: int | None
    estimated_units: int
    changed: int
    device: str
    dtype: str
    replicas: int
    sample: int
    sample_quarantined: int
    load_seconds: float
    predict_seconds: float
    seconds: float | None
    bytes: int | None


@dataclass(frozen=True, kw_only=True)
class MeasuredSample:
    """Measured time and size of sample units: seconds and bytes per unit."""

    units: int
    quarantined: int
    load_seconds: float
    predict_seconds: float
    bytes: float


def estimate(options: RunOptions) -> Estimate:
    """Freeze the plan of a run and estimate its time and size; raises what a run raises before any work."""
    with prepare_run(options) as ready:
        plan, resources = ready.plan, ready.stages.resources
        done = len(committed_shards(ready.output, ready.run.run))
        pieces = list(_sample_pieces(ready.output, plan))
        sample = call_with_replica_resources(resources, measure_sample, ready.stages, pieces)
        loads = max(1.0, (resources.cpus - resources.replicas * resources.replica_cpus) / resources.load_cpus)
        seconds_per_unit = max(sample.load_seconds / loads, sample.predict_seconds / resources.replicas)
        units = plan.units if plan.units is not None else plan.estimated_units or None
        remaining = None if units is None else units * (plan.shards - done) / plan.shards
        return Estimate(
            run=ready.run.run,
            segments=len(plan.segments),
            shards=plan.shards,
            shards_done=done,
            units=plan.units,
            estimated_units=plan.estimated_units,
            changed=plan.changed,
            device=resources.device,
            dtype=resources.dtype,
            replicas=resources.replicas,
            sample=sample.units,
            sample_quarantined=sample.quarantined,
            load_seconds=sample.load_seconds,
            predict_seconds=sample.predict_seconds,
            seconds=None if remaining is None else remaining * seconds_per_unit,
            bytes=None if units is None else round(units * sample.bytes),
        )


def _sample_pieces(output: Store, plan: Plan) -> Iterator[Piece]:
    """Yield pieces from the middle of the plan: the first inputs of a listing are often unlike the others."""
    file = plan.files[len(plan.files) // 2]
    table = read_plan_file(output, file.name, file.sha256)
    rows = itertools.chain(range(table.num_rows // 2, table.num_rows), range(table.num_rows // 2))
    pieces = (piece for row in rows for piece in pieces_in_row(table.slice(row, 1).to_pylist()[0]))
    yield from itertools.islice(pieces, MOST_PIECES)


def measure_sample(stages: StageConfig, pieces: list[Piece]) -> MeasuredSample:
    """Load and predict a few micro-batches in this process, or as many units as fit in SECONDS.

    The first unit warms up the replica, and its duration determines the size of the sample.
    """
    replica = Replica(**stages.replica())
    started = time.perf_counter()
    _, shard = _load(stages.loader, pieces, 1)
    replica(shard)
    each = time.perf_counter() - started
    load_seconds, shard = _load(stages.loader, pieces, _sample_size(each, (1 + BATCHES) * replica.batch_sizes.units))
    started = time.perf_counter()
    rows, failed, _ = unpack(replica(shard))
    predict_seconds = time.perf_counter() - started
    count = max(1, rows.num_rows + failed.num_rows)
    return MeasuredSample(
        units=count,
        quarantined=failed.num_rows,
        load_seconds=load_seconds,
        predict_seconds=predict_seconds / max(1, rows.num_rows),
        bytes=_part_bytes(stages, rows, failed) / count,
    )


def _sample_size(each: float, wanted: int) -> int:
    """Return the number of units to measure if one takes `each` seconds."""
    return max(1, min(wanted, int(SECONDS / each)))


def _load(loader: Loader, pieces: list[Piece], most: int) -> tuple[float, pa.Table]:
    """Load the first `most` units of the pieces; return seconds per unit and the shard."""
    started = time.perf_counter()
    results: list[Loaded | Quarantined] = []
    for piece in pieces:
        left = most - len(results)
        if left <= 0:
            break
        results += read(loader, [replace(piece, units=min(piece.units, left) if piece.units else None, most=left)])
    seconds = time.perf_counter() - started
    units, failed = to_tables(results, loader.kept)
    return seconds / max(1, len(results)), pack(units, failed, {"segment": 0})


def _part_bytes(stages: StageConfig, rows: pa.Table, failed: pa.Table) -> int:
    footer = Footer(
        run=stages.writer.run,
        shard=0,
        segment=0,
        plan="",
        rows=rows.num_rows,
        quarantined=records_in_table(failed),
        seconds={},
    )
    return len(encode_part(stages.writer.rows_and_errors(rows)[0], footer))
