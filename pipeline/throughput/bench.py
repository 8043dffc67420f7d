"""Whole runs beside the engine alone and beside a plain script: the same files, cores and Ray cluster, turn by turn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import torch

from pipeline.heads.clip_inputs import CLIPS_AT_ONCE
from pipeline.heads.flow_inputs import TILES_AT_ONCE
from pipeline.reference import media, weights
from pipeline.reference.shapes import SHAPES, Shape
from pipeline.runtime.cluster import connected
from pipeline.runtime.options import RunOptions
from pipeline.runtime.replica import BATCH
from pipeline.throughput import plain_ray
from pipeline.throughput.runs import Engine, Turn, passes_left_out, pipeline_turn, plain_turn, threads
from pipeline.throughput.watching import busy

Row: TypeAlias = dict[str, Any]

MEASURED = ("vision-perceiver-fourier", "optical-flow-perceiver", "multimodal-perceiver")
_IMAGES, _FLOW, _CLIPS = (SHAPES[name].task for name in MEASURED)
_UNITS: Mapping[str, int] = {_IMAGES: 64, _FLOW: 8, _CLIPS: 4}
_SMALL_UNITS: Mapping[str, int] = {_IMAGES: 128, _FLOW: 16, _CLIPS: 8}
_SHARDS = 16  # about so many a run: with one there would be nothing to do side by side
_LEAST_SIDE = 64  # of a film that is made, whatever the model reads


@dataclass(frozen=True, kw_only=True)
class ThroughputOptions:
    """How often and on what. None: units by the shape, images at a time as a replica takes them."""

    device: str = "cpu"
    dtypes: Sequence[str] = ("float32", "bfloat16")
    repeats: int = 5
    units: int | None = None
    batch: int | None = None
    chunks: int | None = 2  # of a clip's 128 passes, what transformers is timed on; None: all
    small: bool = False
    seed: int = 0


@dataclass(kw_only=True)
class Turns:
    """What was measured so far of one shape in one dtype."""

    engine: list[float] = field(default_factory=list)  # units a second
    pipeline: list[Turn] = field(default_factory=list)
    plain: list[Turn] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)  # share of the CPUs that others had before each turn


def bench_pipelines(names: Sequence[str], options: ThroughputOptions) -> Iterator[Row]:
    """The rows of several of the shapes MEASURED, or of those a tenth of their size, as each is done."""
    for name in names:
        shape = SHAPES[name]
        yield from bench_pipeline(shape.smaller() if options.small else shape, options)


def bench_pipeline(shape: Shape, options: ThroughputOptions) -> Iterator[Row]:
    """A row for each dtype. Rates are medians of `repeats`, and are those of predicting: without starting, and without
    loading the model, which have seconds of their own. RuntimeError where a unit was lost."""
    with tempfile.TemporaryDirectory() as scratch, connected("local"), _threads(threads()):
        folder = Path(scratch)
        checkpoint = weights.make_checkpoint(shape.model_class, shape.config(), folder / "model", options.seed)
        units = options.units or (_SMALL_UNITS if options.small else _UNITS)[shape.task]
        make_inputs(shape, folder / "in", units, options.seed)
        for dtype in options.dtypes:
            work = folder / dtype
            work.mkdir()
            yield Contest(shape, options, dtype, units, checkpoint, folder / "in", work).row()


def make_inputs(shape: Shape, folder: Path, units: int, seed: int = 0) -> None:
    """So many photographs, or one film of so many pairs or clips."""
    config = shape.config()
    if shape.task == _IMAGES:
        media.put_photographs(folder, units, seed=seed)
    elif shape.task == _FLOW:
        size = config.train_size[0], config.train_size[1]
        media.make_film(folder / "film.mp4", media.drifting(units + 1, size, seed), size=size)
    else:
        height, width = (max(_LEAST_SIDE, side) for side in config.output_shape[2:])
        frames, size = units * config.num_frames, (height, width)
        drifting = media.drifting(frames, size, seed)
        media.make_film(folder / "film.mp4", drifting, size=size, sound=frames / media.FPS)


class Contest:
    """The three of them on the same files, in one dtype."""

    def __init__(
        self,
        shape: Shape,
        options: ThroughputOptions,
        dtype: str,
        units: int,
        checkpoint: Path,
        inputs: Path,
        work: Path,
    ) -> None:
        self.shape, self.options, self.dtype, self.units = shape, options, dtype, units
        self.checkpoint, self.inputs, self.work = checkpoint, inputs, work
        self.batch = self._at_once()
        # transformers' own forward mixes dtypes there, and fails in any other.
        self.plain_dtype = "float32" if shape.task == _CLIPS else dtype
        # What it is fastest at: on a CPU transformers gets slower by the batch, as whole tables of attention grow.
        self.plain_batch = options.batch or (1 if options.device == "cpu" else self.batch)
        self.chunks = options.chunks if shape.task == _CLIPS else None
        self.passes = passes_left_out(shape.config(), self.chunks) if shape.task == _CLIPS else 1.0

    @property
    def shard_size(self) -> int:
        """Units a shard: enough for a batch, and few enough that there are several shards."""
        return max(self.batch, self.units // _SHARDS)

    def row(self) -> Row:
        """All turns, and what they come to."""
        turns = Turns()
        engine = Engine(
            self.checkpoint,
            dtype=self.dtype,
            device=self.options.device,
            batch=self.batch,
            seed=self.options.seed,
        )
        contenders: list[Callable[[int], None]] = [
            lambda _: turns.engine.append(engine.units_per_second(self.units)),
            lambda number: turns.pipeline.append(self._pipeline(number)),
            lambda number: turns.plain.append(self._plain(number)),
        ]
        for number in range(self.options.repeats):
            for take_turn in contenders if number % 2 == 0 else reversed(contenders):  # who goes first changes, too
                turns.busy.append(busy())
                take_turn(number)
        # A starved turn is no measurement: on a machine that others used an engine was seen at a sixth of its rate.
        return self._described() | _rates(turns) | _seconds(turns) | {"busy_before": turns.busy}

    def _at_once(self) -> int:
        """Units that a replica's engine computes at once."""
        device = self.options.device
        if self.shape.task == _IMAGES:
            return min(self.units, self.options.batch or BATCH[device])
        return min(self.units, (TILES_AT_ONCE if self.shape.task == _FLOW else CLIPS_AT_ONCE)[device])

    def _pipeline(self, number: int) -> Turn:
        options = RunOptions(
            task=self.shape.task,
            input=str(self.inputs),
            output=str(self.work / f"ours-{number}"),
            checkpoint=str(self.checkpoint),
            dtype=self.dtype,
            device=self.options.device,
            batch_size=self.options.batch or "auto",
            shard_size=self.shard_size,
        )
        return self._whole("the pipeline", pipeline_turn(options, self.work / f"ours-{number}.notes"))

    def _plain(self, number: int) -> Turn:
        script = plain_ray.script(
            self.shape.task,
            str(self.inputs),
            str(self.checkpoint),
            dtype=self.plain_dtype,
            device=self.options.device,
            batch_size=self.plain_batch,
            chunks=self.chunks,
        )
        output, notes = self.work / f"plain-{number}", self.work / f"plain-{number}.notes"
        return self._whole("the plain script", plain_turn(script, output, notes, passes=self.passes))

    def _whole(self, who: str, turn: Turn) -> Turn:
        if turn.units != self.units:
            raise RuntimeError(f"{who} has predicted {turn.units} units of {self.units}")
        return turn

    def _described(self) -> Row:
        return {
            "bench": "pipeline",
            "head": self.shape.task,
            "shape": self.shape.name,
            "dtype": self.dtype,
            "device": self.options.device,
            "units": self.units,
            "batch": self.batch,
            "shard_size": self.shard_size,
            "repeats": self.options.repeats,
            "threads": threads(),
            "plain_ray_dtype": self.plain_dtype,
            "plain_ray_batch": self.plain_batch,
            "extrapolated_from_chunks": self.chunks if self.passes > 1 else None,
        }


def _rates(turns: Turns) -> Row:
    """Units a second of each, and the quotients of their medians."""
    row: Row = {}
    found = {"engine": turns.engine, "pipeline": _while_predicting(turns.pipeline)}
    for name, rates in (found | {"plain_ray": _while_predicting(turns.plain)}).items():
        row[f"{name}_units_per_second"] = median(rates)
        row[f"{name}_units_per_second_range"] = [min(rates), max(rates)]
    row["of_the_engine"] = row["pipeline_units_per_second"] / row["engine_units_per_second"]
    row["over_plain_ray"] = row["pipeline_units_per_second"] / row["plain_ray_units_per_second"]
    return row


def _while_predicting(turns: Sequence[Turn]) -> list[float]:
    return [turn.units / turn.predicting for turn in turns]


def _seconds(turns: Turns) -> Row:
    """Medians: of our runs by stage, of both from the call to the last file; and the most memory of a model's process,
    on the CPU. What is on a GPU is not in it."""
    ours, plain = turns.pipeline, turns.plain
    stages = ("load", "predict", "write", "start", "model")
    return {
        **{f"seconds_{stage}": median(getattr(turn, stage) for turn in ours) for stage in stages},
        "seconds_whole": median(turn.whole for turn in ours),
        "plain_ray_seconds_model": median(turn.model for turn in plain),
        "plain_ray_seconds_start": median(turn.start for turn in plain),
        "plain_ray_seconds_predict": median(turn.predict for turn in plain),
        "plain_ray_seconds_whole": median(turn.whole for turn in plain),
        "peak_bytes": max(turn.peak_bytes for turn in ours),
        "plain_ray_peak_bytes": max(turn.peak_bytes for turn in plain),
        "peak_bytes_of": "the replica's process",
    }


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """torch with so many threads for the time of the block, so that the engine has what a replica has."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
