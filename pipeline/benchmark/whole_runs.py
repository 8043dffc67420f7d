"""Whole runs against the engine alone and plain scripts: the same files, cores and Ray cluster, alternating."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from pipeline.benchmark import baseline_ray
from pipeline.benchmark.baseline import ScriptOptions
from pipeline.benchmark.engine import BenchOptions
from pipeline.benchmark.measurements import RunMeasurement, measure_script, replica_threads
from pipeline.benchmark.monitor import busy_share
from pipeline.benchmark.timing import Row, median_and_range, seconds
from pipeline.benchmark.workloads import CLIPS, Workload, make_workloads
from pipeline.reference import transformers_model
from pipeline.reference.parity import sample_prediction
from pipeline.reference.published_configs import Shape

DAFT_SCRIPT = "pipeline.benchmark.baseline_daft"


def bench_pipeline(shape: Shape, options: BenchOptions) -> Iterator[Row]:
    """Yield a row per dtype, as each is measured. Rates are medians of `repeats`, and of predicting alone.

    Starting and loading the model are separate columns. RuntimeError if a unit is missing from an output.
    """
    for workload in make_workloads(shape, options):
        yield WholeRunComparison(workload).measure()


def _run_daft_script(options: ScriptOptions) -> None:
    """Run the script in a separate process: Daft holds models in processes that it starts itself."""
    command = [sys.executable, "-m", DAFT_SCRIPT, *options.to_arguments()]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)  # noqa: S603


class WholeRunComparison:
    """The engine, the pipeline and the plain scripts on the same files, in one dtype."""

    def __init__(self, workload: Workload) -> None:
        self.workload, self.options = workload, workload.options
        clips = workload.shape.task == CLIPS
        # transformers' forward mixes dtypes for clips, and fails in any but float32.
        self.script_dtype = "float32" if clips else workload.dtype
        # The fastest: on a CPU transformers slows down with the batch, since whole tables of attention grow.
        self.script_batch = self.options.batch or (1 if self.options.device == "cpu" else workload.batch)
        self.chunks = self.options.chunks if clips else None
        all_chunks = transformers_model.num_chunks(workload.shape.config()) if clips else 1
        self.chunk_scale = all_chunks / min(self.chunks or all_chunks, all_chunks)
        self.engine: list[float] = []  # units per second
        self.runs: list[RunMeasurement] = []
        self.ray_scripts: list[RunMeasurement] = []
        self.daft_scripts: list[RunMeasurement] = []  # empty without --daft

    def measure(self) -> Row:
        """Measure all contenders `repeats` times, in alternating order, and return the row."""
        workload, device = self.workload, self.options.device
        predict = sample_prediction(workload.checkpoint, dtype=workload.dtype, device=device, batch=workload.batch)
        predict()  # computes once what does not depend on the input
        contenders: list[Callable[[int], None]] = [
            lambda _: self.engine.append(self._engine_rate(predict)),
            lambda number: self.runs.append(workload.run(f"ours-{number}")),
            lambda number: self.ray_scripts.append(self._script(f"plain-ray-{number}", baseline_ray.write)),
        ]
        if self.options.daft:
            contenders.append(
                lambda number: self.daft_scripts.append(self._script(f"plain-daft-{number}", _run_daft_script))
            )
        busy = []
        for number in range(self.options.repeats):
            for measure in contenders if number % 2 == 0 else reversed(contenders):
                busy.append(busy_share())  # an engine without CPUs was measured at a sixth of its rate
                measure(number)
        return self._description() | self._rates() | self._seconds() | {"busy_before": busy}

    def _engine_rate(self, predict: Callable[[], object]) -> float:
        """Time encoding and decoding of about the units of a run, in whole batches of a replica's size."""
        batch = self.workload.batch
        batches = max(1, round(self.workload.units / batch))

        def predict_all() -> None:
            for _ in range(batches):
                predict()

        return batches * batch / seconds(predict_all, self.options.device)

    def _script(self, name: str, write: Callable[[ScriptOptions], object]) -> RunMeasurement:
        workload, output, log = self.workload, self.workload.outputs / name, self.workload.outputs / f"{name}.log"
        options = ScriptOptions(
            task=workload.shape.task,
            input=str(workload.inputs),
            output=str(output),
            checkpoint=str(workload.checkpoint),
            dtype=self.script_dtype,
            device=self.options.device,
            batch_size=self.script_batch,
            chunks=self.chunks,
            log=str(log),
        )
        measurement = measure_script(lambda: write(options), output, log, chunk_scale=self.chunk_scale)
        return workload.check_complete("the plain script", measurement)

    def _description(self) -> Row:
        return {
            "bench": "pipeline",
            **self.workload.description(),
            "threads": replica_threads(),
            "plain_ray_dtype": self.script_dtype,
            "plain_ray_batch": self.script_batch,
            "extrapolated_from_chunks": self.chunks if self.chunk_scale > 1 else None,
        }

    def _rates(self) -> Row:
        """Return units per second of each contender, and the ratios of their medians."""
        row = median_and_range("engine_units_per_second", self.engine)
        runs = {"pipeline": self.runs, "plain_ray": self.ray_scripts, "plain_daft": self.daft_scripts}
        for name, measurements in runs.items():
            rates = [one.units / one.predicting for one in measurements]
            row |= median_and_range(f"{name}_units_per_second", rates)
        ours, daft = row["pipeline_units_per_second"], row["plain_daft_units_per_second"]
        row["of_the_engine"] = ours / row["engine_units_per_second"]
        row["over_plain_ray"] = ours / row["plain_ray_units_per_second"]
        row["over_plain_daft"] = ours / daft if daft else None
        return row

    def _seconds(self) -> Row:
        """Return median seconds by stage and in total, and the peak CPU memory of the process with the model."""
        runs, ray_scripts, daft_scripts = self.runs, self.ray_scripts, self.daft_scripts

        def medians(prefix: str, measurements: Sequence[RunMeasurement], *names: str) -> Row:
            return {f"{prefix}{name}": median(getattr(one, name) for one in measurements) for name in names}

        return {
            **medians("seconds_", runs, "load", "predict", "write", "start", "model", "whole"),
            **medians("plain_ray_seconds_", ray_scripts, "model", "start", "predict", "whole"),
            "peak_bytes": max(one.peak_bytes for one in runs),
            "plain_ray_peak_bytes": max(one.peak_bytes for one in ray_scripts),
            "plain_daft_seconds_whole": median(one.whole for one in daft_scripts) if daft_scripts else None,
            "plain_daft_peak_bytes": max((one.peak_bytes for one in daft_scripts), default=None),
            "peak_bytes_of": "the replica's process",
        }
