"""Whole runs beside the engine alone and beside a plain script: the same files, cores and Ray cluster, turn by turn."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from pipeline.benchmark import baseline_ray
from pipeline.benchmark.baseline import Asked
from pipeline.benchmark.monitor import busy
from pipeline.benchmark.turns import Engine, Turn, passes_left_out, plain_turn, replica_threads
from pipeline.benchmark.workloads import CLIPS, Row, ThroughputOptions, Work, shapes_of, works
from pipeline.reference.published_configs import Shape

PLAIN_DAFT = "pipeline.benchmark.baseline_daft"


@dataclass(kw_only=True)
class Turns:
    """What was measured so far of one shape in one dtype."""

    engine: list[float] = field(default_factory=list)  # units a second
    pipeline: list[Turn] = field(default_factory=list)
    plain: list[Turn] = field(default_factory=list)
    daft: list[Turn] = field(default_factory=list)  # none where it is not asked for
    busy: list[float] = field(default_factory=list)  # share of the CPUs that others had before each turn


def bench_pipelines(names: Sequence[str], options: ThroughputOptions) -> Iterator[Row]:
    """The rows of several of the shapes MEASURED, or of those a tenth of their size, as each is done."""
    for shape in shapes_of(names, options):
        yield from bench_pipeline(shape, options)


def bench_pipeline(shape: Shape, options: ThroughputOptions) -> Iterator[Row]:
    """A row for each dtype. Rates are medians of `repeats`, and are those of predicting: without starting, and without
    loading the model, which have seconds of their own. RuntimeError where a unit was lost."""
    for work in works(shape, options):
        yield Contest(work).row()


class Contest:
    """The engine, the pipeline and the plain script on the same files, in one dtype."""

    def __init__(self, work: Work) -> None:
        self.work, self.options = work, work.options
        task, config = work.shape.task, work.shape.config()
        # transformers' own forward mixes dtypes there, and fails in any other.
        self.plain_dtype = "float32" if task == CLIPS else work.dtype
        # What it is fastest at: on a CPU transformers gets slower by the batch, as whole tables of attention grow.
        self.plain_batch = self.options.batch or (1 if self.options.device == "cpu" else work.batch)
        self.chunks = self.options.chunks if task == CLIPS else None
        self.passes = passes_left_out(config, self.chunks) if task == CLIPS else 1.0

    def row(self) -> Row:
        """All turns, and what they come to."""
        turns = Turns()
        work = self.work
        engine = Engine(
            work.checkpoint,
            dtype=work.dtype,
            device=self.options.device,
            batch=work.batch,
            seed=self.options.seed,
        )
        contenders: list[Callable[[int], None]] = [
            lambda _: turns.engine.append(engine.units_per_second(work.units)),
            lambda number: turns.pipeline.append(work.run(f"ours-{number}")),
            lambda number: turns.plain.append(self._plain_ray(number)),
        ]
        if self.options.daft:
            contenders.append(lambda number: turns.daft.append(self._plain_daft(number)))
        for number in range(self.options.repeats):
            for take_turn in contenders if number % 2 == 0 else reversed(contenders):  # who goes first changes, too
                turns.busy.append(busy())
                take_turn(number)
        # A starved turn is no measurement: on a machine that others used an engine was seen at a sixth of its rate.
        return self._described() | _rates(turns) | _seconds(turns) | {"busy_before": turns.busy}

    def _plain_ray(self, number: int) -> Turn:
        asked = self._asked(f"plain-ray-{number}")
        return self._plain(asked, lambda: baseline_ray.write(asked))

    def _plain_daft(self, number: int) -> Turn:
        """In a process of its own: Daft holds models in processes that it starts by itself."""
        asked = self._asked(f"plain-daft-{number}")
        command = [sys.executable, "-m", PLAIN_DAFT, *asked.words()]
        return self._plain(asked, lambda: subprocess.run(command, check=True, stderr=subprocess.DEVNULL))  # noqa: S603

    def _plain(self, asked: Asked, write: Callable[[], object]) -> Turn:
        turn = plain_turn(write, Path(asked.output), Path(str(asked.notes)), passes=self.passes)
        return self.work.whole("the plain script", turn)

    def _asked(self, name: str) -> Asked:
        work = self.work
        return Asked(
            task=work.shape.task,
            input=str(work.inputs),
            output=str(work.outputs / name),
            checkpoint=str(work.checkpoint),
            dtype=self.plain_dtype,
            device=self.options.device,
            batch_size=self.plain_batch,
            chunks=self.chunks,
            notes=str(work.outputs / f"{name}.notes"),
        )

    def _described(self) -> Row:
        return {
            "bench": "pipeline",
            **self.work.described(),
            "threads": replica_threads(),
            "plain_ray_dtype": self.plain_dtype,
            "plain_ray_batch": self.plain_batch,
            "extrapolated_from_chunks": self.chunks if self.passes > 1 else None,
        }


def _rates(turns: Turns) -> Row:
    """Units a second of each, and the quotients of their medians."""
    row: Row = {}
    whole = {"pipeline": turns.pipeline, "plain_ray": turns.plain, "plain_daft": turns.daft}
    for name, rates in {"engine": turns.engine, **{who: _while_predicting(of) for who, of in whole.items()}}.items():
        row[f"{name}_units_per_second"] = median(rates) if rates else None
        row[f"{name}_units_per_second_range"] = [min(rates), max(rates)] if rates else None
    ours = row["pipeline_units_per_second"]
    row["of_the_engine"] = ours / row["engine_units_per_second"]
    row["over_plain_ray"] = ours / row["plain_ray_units_per_second"]
    row["over_plain_daft"] = ours / row["plain_daft_units_per_second"] if turns.daft else None
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
        "plain_daft_seconds_whole": median(turn.whole for turn in turns.daft) if turns.daft else None,
        "plain_daft_peak_bytes": max((turn.peak_bytes for turn in turns.daft), default=None),
        "peak_bytes_of": "the replica's process",
    }
