"""Workloads of whole runs: generated files, random weights, and a Ray cluster of this machine."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.benchmark.engine import BenchOptions
from pipeline.benchmark.measurements import RunMeasurement, measure_run, replica_threads
from pipeline.benchmark.timing import Row
from pipeline.heads.clip_inputs import CLIPS_PER_BATCH
from pipeline.heads.flow_inputs import TILES_PER_BATCH
from pipeline.perceiver.cpu_parallel import torch_threads
from pipeline.reference import random_checkpoints, sample_media
from pipeline.reference.published_configs import SHAPES, Shape
from pipeline.runtime.options import RunOptions
from pipeline.runtime.ray_backend.connect import ray_connection
from pipeline.runtime.stages.predict import MAX_BATCH_UNITS

MEASURED = ("vision-perceiver-fourier", "optical-flow-perceiver", "multimodal-perceiver")
IMAGES, FLOW, CLIPS = (SHAPES[name].task for name in MEASURED)
_UNITS: Mapping[str, int] = {IMAGES: 64, FLOW: 8, CLIPS: 4}
_SHARDS = 16  # per run, about: enough for stages and replicas to work in parallel
_MIN_SIDE = 64  # of a generated video, in pixels


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The units to predict in one dtype, and the checkpoint."""

    shape: Shape
    options: BenchOptions
    dtype: str
    units: int
    checkpoint: Path
    inputs: Path
    outputs: Path

    @property
    def batch(self) -> int:
        """Units per batch of a replica."""
        device = self.options.device
        if self.shape.task == IMAGES:
            return min(self.units, self.options.batch or MAX_BATCH_UNITS[device])
        return min(self.units, (TILES_PER_BATCH if self.shape.task == FLOW else CLIPS_PER_BATCH)[device])

    @property
    def shard_size(self) -> int:
        """Units per shard: at least one batch, and few enough for several shards."""
        return max(self.batch, self.units // _SHARDS)

    def run_options(self, name: str = "out", *, replicas: int = 1) -> RunOptions:
        """Return the options of a whole run into the OUTPUT `name`."""
        return RunOptions(
            task=self.shape.task,
            input=str(self.inputs),
            output=str(self.outputs / name),
            checkpoint=str(self.checkpoint),
            dtype=self.dtype,
            device=self.options.device,
            batch_size=self.options.batch or "auto",
            shard_size=self.shard_size,
            replicas=replicas,
        )

    def run(self, name: str, *, replicas: int = 1) -> RunMeasurement:
        """Measure a whole run into the OUTPUT `name`. RuntimeError if a unit is missing."""
        options = self.run_options(name, replicas=replicas)
        return self.check_complete("the pipeline", measure_run(options, self.outputs / f"{name}.log"))

    def check_complete(self, who: str, measurement: RunMeasurement) -> RunMeasurement:
        """Return the measurement. RuntimeError if it did not predict all units."""
        if measurement.units != self.units:
            raise RuntimeError(f"{who} predicted {measurement.units} of {self.units} units")
        return measurement

    def description(self) -> Row:
        """Return the columns of every row that describe the workload."""
        return {
            "head": self.shape.task,
            "shape": self.shape.name,
            "dtype": self.dtype,
            "device": self.options.device,
            "units": self.units,
            "batch": self.batch,
            "shard_size": self.shard_size,
            "repeats": self.options.repeats,
        }


def make_workloads(shape: Shape, options: BenchOptions) -> Iterator[Workload]:
    """Yield the workload in each dtype, on the same files and weights. The Ray cluster runs until the last one."""
    with tempfile.TemporaryDirectory() as scratch, ray_connection("local"), torch_threads(replica_threads()):
        folder = Path(scratch)
        checkpoint = random_checkpoints.make_checkpoint(shape.model_class, shape.config(), folder / "model")
        units = options.units or _UNITS[shape.task] * (2 if options.small else 1)
        make_inputs(shape, folder / "in", units)
        for dtype in options.dtypes:
            outputs = folder / dtype
            outputs.mkdir()
            yield Workload(
                shape=shape,
                options=options,
                dtype=dtype,
                units=units,
                checkpoint=checkpoint,
                inputs=folder / "in",
                outputs=outputs,
            )


def make_inputs(shape: Shape, folder: Path, units: int) -> None:
    """Write the files of `units` units: photos, or one video of that many frame pairs or clips."""
    config = shape.config()
    if shape.task == IMAGES:
        sample_media.write_photos(folder, units)
    elif shape.task == FLOW:
        size = config.train_size[0], config.train_size[1]
        sample_media.write_video(folder / "video.mp4", sample_media.drifting_frames(units + 1, size), size=size)
    else:
        height, width = (max(_MIN_SIDE, side) for side in config.output_shape[2:])
        frames, size = units * config.num_frames, (height, width)
        drifting = sample_media.drifting_frames(frames, size)
        sample_media.write_video(folder / "video.mp4", drifting, size=size, audio_seconds=frames / sample_media.FPS)
