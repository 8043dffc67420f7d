"""What a run would do and take: the plan frozen, a few of its units tried on the cluster, the rest reckoned."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import ray

from pipeline.runtime.dataset import Stages
from pipeline.runtime.load import Loader, read, to_tables
from pipeline.runtime.options import RunOptions
from pipeline.runtime.packing import pack, unpack
from pipeline.runtime.plan import Plan
from pipeline.runtime.prepare import prepared
from pipeline.runtime.quarantine import from_table
from pipeline.runtime.replica import Replica
from pipeline.runtime.resume import committed
from pipeline.runtime.segments import pieces_of, read_plan_file
from pipeline.sinks.parts import Footer, encode_part
from pipeline.sources.base import Piece
from pipeline.storage import Store

BATCHES = 3  # measured; one more warms up
MOST_UNITS = 64


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A frozen plan and what it takes. `units` and what follows from them are None where only opening the inputs tells.

    `load_seconds`, `predict_seconds`: of one unit in one task and one replica, measured on `sample` units;
    `seconds`: of the shards that are left, on the cluster as it is; `bytes`: of all parts.
    """

    run: str
    segments: int
    shards: int
    shards_done: int
    units: int | None
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
class Sample:
    """What a few units took: seconds and bytes of one."""

    units: int
    quarantined: int
    load_seconds: float
    predict_seconds: float
    bytes: float


def estimate(options: RunOptions) -> Estimate:
    """Freeze the plan of a run and say what it takes. Raises what a run would raise before any work."""
    with prepared(options) as ready:
        plan, resources = ready.plan, ready.stages.resources
        done = len(committed(ready.output, ready.run.run))
        pieces = list(_pieces(ready.output, plan))
        task = ray.remote(measure).options(num_cpus=resources.replica_cpus, num_gpus=resources.replica_gpus)
        sample: Sample = ray.get(task.remote(ready.stages, pieces))
        loads = max(1.0, (resources.cpus - resources.replicas * resources.replica_cpus) / resources.load_cpus)
        a_unit = max(sample.load_seconds / loads, sample.predict_seconds / resources.replicas)
        left = None if plan.units is None else plan.units * (plan.shards - done) / plan.shards
        return Estimate(
            run=ready.run.run,
            segments=len(plan.segments),
            shards=plan.shards,
            shards_done=done,
            units=plan.units,
            changed=plan.changed,
            device=resources.device,
            dtype=resources.dtype,
            replicas=resources.replicas,
            sample=sample.units,
            sample_quarantined=sample.quarantined,
            load_seconds=sample.load_seconds,
            predict_seconds=sample.predict_seconds,
            seconds=None if left is None else left * a_unit,
            bytes=None if plan.units is None else round(plan.units * sample.bytes),
        )


def _pieces(output: Store, plan: Plan) -> Iterator[Piece]:
    """The first pieces of the plan's middle file: listings often start with what is unlike the rest."""
    file = plan.files[len(plan.files) // 2]
    table = read_plan_file(output, file.name, file.sha256)
    rows = itertools.chain(range(table.num_rows // 2, table.num_rows), range(table.num_rows // 2))
    pieces = (piece for row in rows for piece in pieces_of(table.slice(row, 1).to_pylist()[0]))
    yield from itertools.islice(pieces, MOST_UNITS)


def measure(stages: Stages, pieces: list[Piece]) -> Sample:
    """Load and predict some units in this process. The first piece and the first micro-batch warm up, uncounted."""
    replica = Replica(**stages.replica())
    size = min(len(pieces), (1 + BATCHES) * replica.batch_size)
    list(read(stages.loader, pieces[:1]))
    load_seconds, shard = _load(stages.loader, pieces[:size], (1 + BATCHES) * replica.batch_size)
    units, failed, _ = unpack(shard)
    replica(pack(units.slice(0, replica.batch_size), failed, {"segment": 0}))
    started = time.perf_counter()
    rows, failed, _ = unpack(replica(shard))
    predict_seconds = time.perf_counter() - started
    count = max(1, rows.num_rows + failed.num_rows)
    return Sample(
        units=count,
        quarantined=failed.num_rows,
        load_seconds=load_seconds,
        predict_seconds=predict_seconds / max(1, rows.num_rows),
        bytes=_part_bytes(stages, rows, failed) / count,
    )


def _load(loader: Loader, pieces: list[Piece], most: int) -> tuple[float, pa.Table]:
    """Seconds of one unit, and the shard of the first `most` of them: a piece of text holds thousands."""
    started = time.perf_counter()
    results = list(read(loader, pieces))
    seconds = time.perf_counter() - started
    units, failed = to_tables(results[:most], loader.kept)
    return seconds / max(1, len(results)), pack(units, failed, {"segment": 0})


def _part_bytes(stages: Stages, rows: pa.Table, failed: pa.Table) -> int:
    footer = Footer(
        run=stages.writer.run,
        shard=0,
        segment=0,
        plan="",
        rows=rows.num_rows,
        quarantined=from_table(failed),
        seconds={},
    )
    return len(encode_part(stages.writer.rows(rows), footer))
