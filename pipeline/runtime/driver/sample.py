"""A sample of a plan's units, and what loading, predicting and writing them takes."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.plan_files import pieces_in_row, read_plan_file
from pipeline.runtime.ray_backend.passes import StageConfig
from pipeline.runtime.records.quarantine import records_in_table
from pipeline.runtime.stages.load import read, to_tables
from pipeline.runtime.stages.predict import Replica
from pipeline.runtime.stages.shard_format import pack, unpack
from pipeline.runtime.stages.unit_reader import Loaded, Loader
from pipeline.runtime.stages.write import Writer
from pipeline.sinks.parts import Footer, Quarantined, encode_part
from pipeline.sources.source import Piece
from pipeline.storage import Store

SAMPLED_SHARDS = 16  # evenly spaced: the first inputs of a listing are often unlike the others
SAMPLED_UNITS = 64
SECONDS = 20.0  # approximate limit for predicting the sample
_REPEATS = 3  # of predicting it, while the batch size settles

PiecesOfShard = list[Piece]


@dataclass(frozen=True, kw_only=True)
class MeasuredSample:
    """What sample units took in one task of each stage.

    Attributes:
        units: number of units, those included that were quarantined.
        quarantined: number of units that were quarantined.
        start_seconds: from a new process to a replica that is warm.
        load_seconds, predict_seconds, write_seconds: per unit.
        unit_bytes: of a row in a part.
        part_bytes: of a part, in addition to its rows.
    """

    units: int
    quarantined: int
    start_seconds: float
    load_seconds: float
    predict_seconds: float
    write_seconds: float
    unit_bytes: float
    part_bytes: float


def sample_pieces(output: Store, plan: Plan) -> list[PiecesOfShard]:
    """Return the first pieces of a few shards, evenly spaced over the plan."""
    total = plan.shards
    wanted = sorted({total * index // SAMPLED_SHARDS for index in range(SAMPLED_SHARDS)}) if total else []
    sampled = []
    for file in plan.files:
        rows = [shard - file.first_shard for shard in wanted if 0 <= shard - file.first_shard < file.shards]
        if rows:
            table = read_plan_file(output, file.name, file.sha256)
            sampled += [pieces_in_row(table.slice(row, 1).to_pylist()[0])[:SAMPLED_UNITS] for row in rows]
    return sampled


def measure_sample(stages: StageConfig, shards: Sequence[PiecesOfShard]) -> MeasuredSample:
    """Load, predict and encode units of these shards in this process, as many as fit in SECONDS."""
    started = time.perf_counter()
    replica = Replica(**stages.replica)
    _, first = _load(stages.loader, shards, 1)
    _write(stages.writer, replica(first))  # starts threads and child processes, and compiles kernels
    start_seconds = time.perf_counter() - started
    each = _seconds_to_predict(replica, first)[0]
    load_seconds, shard = _load(stages.loader, shards, sample_size(each))
    predict_seconds, done = _seconds_to_predict(replica, shard, repeats=_REPEATS)
    write_seconds, unit_bytes, part_bytes = _write(stages.writer, done)
    rows, failed, _ = unpack(done)
    return MeasuredSample(
        units=max(1, rows.num_rows + failed.num_rows),
        quarantined=failed.num_rows,
        start_seconds=start_seconds,
        load_seconds=load_seconds,
        predict_seconds=predict_seconds / max(1, rows.num_rows),
        write_seconds=write_seconds,
        unit_bytes=unit_bytes,
        part_bytes=part_bytes,
    )


def sample_size(each: float) -> int:
    """Return the number of units to measure if predicting one takes `each` seconds."""
    return max(1, min(SAMPLED_UNITS, int(SECONDS / each)))


def _load(loader: Loader, shards: Sequence[PiecesOfShard], most: int) -> tuple[float, pa.Table]:
    """Load about `most` units, equally many of each shard; return seconds per unit and the shard."""
    started = time.perf_counter()
    results: list[Loaded | Quarantined] = []
    left = most
    for number, pieces in enumerate(shards):
        share = -(-left // (len(shards) - number))
        found = list(_read(loader, pieces, share))
        results += found
        left -= len(found)
    seconds = time.perf_counter() - started
    units, failed = to_tables(results, loader.kept, loader.known_labels)
    return seconds / max(1, len(results)), pack(units, failed, {"segment": 0})


def _read(loader: Loader, pieces: PiecesOfShard, most: int) -> Iterator[Loaded | Quarantined]:
    """Read the first `most` units of the pieces."""
    chosen: list[Piece] = []
    left = most
    for piece in pieces:
        if left <= 0:
            break
        units = None if piece.units is None else min(piece.units, left)
        chosen.append(replace(piece, units=units, most=left))
        left -= units if units is not None else min(piece.about or 1, left)
    return read(loader, chosen) if chosen else iter(())


def _seconds_to_predict(replica: Replica, shard: pa.Table, repeats: int = 1) -> tuple[float, pa.Table]:
    """Predict a shard up to `repeats` times in about SECONDS; return the least seconds and the last result."""
    taken: list[float] = []
    while not taken or (len(taken) < repeats and sum(taken) + taken[-1] <= SECONDS):
        started = time.perf_counter()
        done = replica(shard)
        taken.append(time.perf_counter() - started)
    return min(taken), done


def _write(writer: Writer, shard: pa.Table) -> tuple[float, float, float]:
    """Encode the part of a shard, and of half of it; return seconds per row, bytes per row, and bytes per part."""
    units, failed, _ = unpack(shard)
    started = time.perf_counter()
    rows, _ = writer.rows_and_errors(units)
    size = _encoded_bytes(writer, rows, records_in_table(failed))
    seconds = time.perf_counter() - started
    count, half = rows.num_rows, rows.num_rows // 2
    if not half:
        return seconds / max(1, count), float(size), 0.0
    smaller = _encoded_bytes(writer, rows.slice(0, half), ())
    per_row = (size - smaller) / (count - half)
    return seconds / count, per_row, max(0.0, size - count * per_row)


def _encoded_bytes(writer: Writer, rows: pa.Table, quarantined: tuple[Quarantined, ...]) -> int:
    footer = Footer(
        run=writer.run, shard=0, segment=0, plan="", rows=rows.num_rows, quarantined=quarantined, seconds={}
    )
    return len(encode_part(rows, footer))
