"""The same work as Ray Data's and transformers' own documentation would have one write it: read, preprocess, predict in
an actor, write Parquet. What whole runs are measured beside.

    python -m pipeline.throughput.plain_ray image-classification INPUT OUTPUT --checkpoint FOLDER

Nothing is retried, quarantined or resumed, and files are read without limits. Films are read whole by one task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.data
from transformers import PerceiverConfig

from pipeline.throughput.plain import (
    PREDICTORS,
    parse,
    predictor_arguments,
    preprocess_clips,
    preprocess_images,
    preprocess_pairs,
)
from pipeline.throughput.watching import WatchedPredictor


@dataclass(frozen=True, kw_only=True)
class Script:
    """What is read, and what predicts it."""

    inputs: ray.data.Dataset
    predictor: type
    arguments: Mapping[str, Any]
    batch_size: int
    gpus: int

    def write(self, output: str) -> None:
        """Predict all of it into Parquet."""
        predicted = self.inputs.map_batches(
            self.predictor,
            fn_constructor_kwargs=dict(self.arguments),
            compute=ray.data.ActorPoolStrategy(size=1),
            batch_size=self.batch_size,
            num_gpus=self.gpus or None,
        )
        predicted.write_parquet(output)


def script(
    task: str,
    inputs: str,
    checkpoint: str,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    batch_size: int = 1,
    chunks: int | None = None,
    notes: str | None = None,
) -> Script:
    """The script of a task over a file or folder. `chunks`: of a clip's 128 passes, all by default. `notes`: a file
    that takes down when the model was ready and how long each call took."""
    threads = max(1, int(ray.cluster_resources()["CPU"]))
    arguments = predictor_arguments(task, checkpoint, dtype=dtype, device=device, threads=threads, chunks=chunks)
    predictor: type = PREDICTORS[task]
    if notes is not None:
        predictor, arguments = WatchedPredictor, arguments | {"predictor": predictor, "notes": notes}
    return Script(
        inputs=_READ[task](inputs, checkpoint),
        predictor=predictor,
        arguments=arguments,
        batch_size=batch_size,
        gpus=int(device == "cuda"),
    )


def _images(inputs: str, checkpoint: str) -> ray.data.Dataset:
    from transformers import PerceiverImageProcessorPil  # the other class of its name needs torchvision

    processor = PerceiverImageProcessorPil.from_pretrained(checkpoint)
    pictures = ray.data.read_images(inputs, include_paths=True, mode="RGB")
    return pictures.map_batches(preprocess_images, fn_kwargs={"processor": processor}, batch_size=8)


def _pairs(inputs: str, checkpoint: str) -> ray.data.Dataset:
    height, width = PerceiverConfig.from_pretrained(checkpoint).train_size
    films = ray.data.read_binary_files(inputs, include_paths=True)
    return films.map_batches(preprocess_pairs, fn_kwargs={"size": (height, width)}, batch_size=1)


def _clips(inputs: str, checkpoint: str) -> ray.data.Dataset:
    films = ray.data.read_binary_files(inputs, include_paths=True)
    config = PerceiverConfig.from_pretrained(checkpoint)
    return films.map_batches(preprocess_clips, fn_kwargs={"config": config}, batch_size=1)


_READ: Mapping[str, Callable[[str, str], ray.data.Dataset]] = {
    "image-classification": _images,
    "optical-flow": _pairs,
    "multimodal-autoencoding": _clips,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The script from the command line."""
    given = parse("Predict with transformers under Ray Data, plainly.", arguments)
    output = given.pop("output")
    ray.init(address="local", log_to_driver=False)
    script(given.pop("task"), given.pop("input"), given.pop("checkpoint"), **given).write(output)


if __name__ == "__main__":
    main()
