"""Estimate of a run: freeze the plan, measure a sample of its units on the cluster, extrapolate."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from pipeline.runtime.driver.prepare import prepare_run
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.plan_files import pieces_in_row, read_plan_file
from pipeline.runtime.ray_backend.dataset import StageConfig
from pipeline.runtime.ray_backend.resources import Resources, call_with_replica_resources
from pipeline.runtime.records.committed import list_parts
from pipeline.runtime.records.listing import ListedInputs
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
class MeasuredSample:
    """Measured time and size of sample units: seconds in one task and one replica, and bytes, per unit."""

    units: int
    quarantined: int
    load_seconds: float
    predict_seconds: float
    bytes: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A frozen plan with estimated time and size.

    `seconds`: of the remaining shards on this cluster. `bytes`: of all parts. If only opening the inputs tells the
    number of units, both follow from a guess from the inputs, and are None without one.
    """

    plan: Plan
    listed: ListedInputs
    shards_done: int
    resources: Resources
    sample: MeasuredSample
    seconds: float | None
    bytes: int | None
    notes: tuple[str, ...] = ()  # what is assumed about the checkpoint


def estimate(options: RunOptions) -> Estimate:
    """Freeze the plan of a run and estimate its time and size; raises what a run raises before any work."""
    with prepare_run(options) as ready:
        plan, resources = ready.plan, ready.stages.resources
        done = len(list_parts(ready.output, ready.run.run).shards)
        pieces = list(_sample_pieces(ready.output, plan))
        sample = call_with_replica_resources(resources, measure_sample, ready.stages, pieces)
        loads = max(1.0, (resources.cpus - resources.replicas * resources.replica_cpus) / resources.load_cpus)
        seconds_per_unit = max(sample.load_seconds / loads, sample.predict_seconds / resources.replicas)
        units = plan.units if plan.units is not None else plan.estimated_units or None
        return Estimate(
            plan=plan,
            listed=ready.listed,
            shards_done=done,
            resources=resources,
            sample=sample,
            seconds=None if units is None else units * (plan.shards - done) / plan.shards * seconds_per_unit,
            bytes=None if units is None else round(units * sample.bytes),
            notes=ready.notes,
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
    replica = Replica(**stages.replica)
    started = time.perf_counter()
    _, shard = _load(stages.loader, pieces, 1)
    replica(shard)
    each = time.perf_counter() - started
    load_seconds, shard = _load(stages.loader, pieces, _sample_size(each, (1 + BATCHES) * replica.batch_sizes.units))
    started = time.perf_counter()
    rows, failed, _ = unpack(replica(shard))
    predict_seconds = time.perf_counter() - started
    quarantined = records_in_table(failed)
    footer = Footer(
        run=stages.writer.run, shard=0, segment=0, plan="", rows=rows.num_rows, quarantined=quarantined, seconds={}
    )
    count = max(1, rows.num_rows + failed.num_rows)
    return MeasuredSample(
        units=count,
        quarantined=failed.num_rows,
        load_seconds=load_seconds,
        predict_seconds=predict_seconds / max(1, rows.num_rows),
        bytes=len(encode_part(stages.writer.rows_and_errors(rows)[0], footer)) / count,
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
