"""What whole runs are measured on: files that are made, weights that are drawn, and a Ray cluster of this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pipeline.benchmark.turns import Turn, pipeline_turn, replica_threads
from pipeline.heads.clip_inputs import CLIPS_PER_BATCH
from pipeline.heads.flow_inputs import TILES_PER_BATCH
from pipeline.perceiver.cpu_parallel import torch_threads
from pipeline.reference import random_checkpoints, sample_media
from pipeline.reference.published_configs import SHAPES, Shape
from pipeline.runtime.options import RunOptions
from pipeline.runtime.ray_backend.connect import ray_connection
from pipeline.runtime.stages.predict import MAX_BATCH_UNITS

Row: TypeAlias = dict[str, Any]

MEASURED = ("vision-perceiver-fourier", "optical-flow-perceiver", "multimodal-perceiver")
IMAGES, FLOW, CLIPS = (SHAPES[name].task for name in MEASURED)
_UNITS: Mapping[str, int] = {IMAGES: 64, FLOW: 8, CLIPS: 4}
_SMALL_UNITS: Mapping[str, int] = {IMAGES: 128, FLOW: 16, CLIPS: 8}
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
    daft: bool = False  # beside a plain script of Daft, too
    seed: int = 0


def shapes_of(names: Sequence[str], options: ThroughputOptions) -> Iterator[Shape]:
    """Those of the published shapes, or of a tenth of their size."""
    return (SHAPES[name].smaller() if options.small else SHAPES[name] for name in names)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be predicted, and by which model."""

    shape: Shape
    options: ThroughputOptions
    dtype: str
    units: int
    checkpoint: Path
    inputs: Path
    outputs: Path

    @property
    def batch(self) -> int:
        """Units that a replica's engine computes at once."""
        device = self.options.device
        if self.shape.task == IMAGES:
            return min(self.units, self.options.batch or MAX_BATCH_UNITS[device])
        return min(self.units, (TILES_PER_BATCH if self.shape.task == FLOW else CLIPS_PER_BATCH)[device])

    @property
    def shard_size(self) -> int:
        """Units a shard: enough for a batch, and few enough that there are several shards."""
        return max(self.batch, self.units // _SHARDS)

    def run_options(self, name: str = "out", *, replicas: int = 1) -> RunOptions:
        """Of a whole run into an OUTPUT of that name."""
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

    def run(self, name: str, *, replicas: int = 1) -> Turn:
        """A whole run into an OUTPUT of that name; RuntimeError where a unit was lost."""
        options = self.run_options(name, replicas=replicas)
        return self.whole("the pipeline", pipeline_turn(options, self.outputs / f"{name}.notes"))

    def whole(self, who: str, turn: Turn) -> Turn:
        """The turn; RuntimeError where it did not predict all units."""
        if turn.units != self.units:
            raise RuntimeError(f"{who} has predicted {turn.units} units of {self.units}")
        return turn

    def described(self) -> Row:
        """What every row says of it."""
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


def works(shape: Shape, options: ThroughputOptions) -> Iterator[Work]:
    """The work of each dtype, on the same files and weights; for each its time the cluster is there."""
    with tempfile.TemporaryDirectory() as scratch, ray_connection("local"), torch_threads(replica_threads()):
        folder = Path(scratch)
        checkpoint = random_checkpoints.make_checkpoint(
            shape.model_class, shape.config(), folder / "model", options.seed
        )
        units = options.units or (_SMALL_UNITS if options.small else _UNITS)[shape.task]
        make_inputs(shape, folder / "in", units, options.seed)
        for dtype in options.dtypes:
            outputs = folder / dtype
            outputs.mkdir()
            yield Work(
                shape=shape,
                options=options,
                dtype=dtype,
                units=units,
                checkpoint=checkpoint,
                inputs=folder / "in",
                outputs=outputs,
            )


def make_inputs(shape: Shape, folder: Path, units: int, seed: int = 0) -> None:
    """So many photographs, or one film of so many pairs or clips."""
    config = shape.config()
    if shape.task == IMAGES:
        sample_media.write_photos(folder, units, seed=seed)
    elif shape.task == FLOW:
        size = config.train_size[0], config.train_size[1]
        sample_media.write_video(folder / "film.mp4", sample_media.drifting_frames(units + 1, size, seed), size=size)
    else:
        height, width = (max(_LEAST_SIDE, side) for side in config.output_shape[2:])
        frames, size = units * config.num_frames, (height, width)
        drifting = sample_media.drifting_frames(frames, size, seed)
        sample_media.write_video(folder / "film.mp4", drifting, size=size, audio_seconds=frames / sample_media.FPS)
