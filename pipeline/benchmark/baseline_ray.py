"""The same work as Ray Data's and transformers' own documentation would have one write it: read, preprocess, predict in
an actor, write Parquet. What whole runs are measured beside.

    python -m pipeline.benchmark.baseline_ray image-classification INPUT OUTPUT --checkpoint FOLDER

Nothing is retried, quarantined or resumed, and files are read without limits. Films are read whole by one task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ray
import ray.data
from transformers import PerceiverConfig

from pipeline.benchmark.baseline import Asked, preprocess_clips, preprocess_images, preprocess_pairs


def write(asked: Asked) -> None:
    """Predict all of it into Parquet, with one model and all CPUs."""
    predictor, arguments = asked.predictor(threads=max(1, int(ray.cluster_resources()["CPU"])))
    predicted = _READ[asked.task](asked.input, asked.checkpoint).map_batches(
        predictor,
        fn_constructor_kwargs=arguments,
        compute=ray.data.ActorPoolStrategy(size=1),
        batch_size=asked.batch_size,
        num_gpus=1 if asked.device == "cuda" else None,
    )
    predicted.write_parquet(asked.output)


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


if __name__ == "__main__":
    given = Asked.parse("Predict with transformers under Ray Data, plainly.")
    ray.init(address="local", log_to_driver=False)
    write(given)
