"""A plain Ray Data script: read, preprocess, predict in an actor and write Parquet, as in the documentation of Ray Data
and transformers.

    python -m pipeline.benchmark.baseline_ray image-classification INPUT OUTPUT --checkpoint FOLDER

No retry, quarantine, resume, or limits on reading. One task reads a whole video.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ray
import ray.data
from transformers import PerceiverConfig

from pipeline.benchmark.baseline import ScriptOptions, preprocess_clips, preprocess_images, preprocess_pairs


def write(options: ScriptOptions) -> None:
    """Predict all inputs into Parquet files, with one model on all CPUs."""
    predictor, arguments = options.predictor(threads=max(1, int(ray.cluster_resources()["CPU"])))
    predicted = _READ[options.task](options.input, options.checkpoint).map_batches(
        predictor,
        fn_constructor_kwargs=arguments,
        compute=ray.data.ActorPoolStrategy(size=1),
        batch_size=options.batch_size,
        num_gpus=1 if options.device == "cuda" else None,
    )
    predicted.write_parquet(options.output)


def _images(inputs: str, checkpoint: str) -> ray.data.Dataset:
    from transformers import PerceiverImageProcessorPil  # the other image processor needs torchvision

    processor = PerceiverImageProcessorPil.from_pretrained(checkpoint)
    images = ray.data.read_images(inputs, include_paths=True, mode="RGB")
    return images.map_batches(preprocess_images, fn_kwargs={"processor": processor}, batch_size=8)


def _pairs(inputs: str, checkpoint: str) -> ray.data.Dataset:
    height, width = PerceiverConfig.from_pretrained(checkpoint).train_size
    videos = ray.data.read_binary_files(inputs, include_paths=True)
    return videos.map_batches(preprocess_pairs, fn_kwargs={"size": (height, width)}, batch_size=1)


def _clips(inputs: str, checkpoint: str) -> ray.data.Dataset:
    videos = ray.data.read_binary_files(inputs, include_paths=True)
    config = PerceiverConfig.from_pretrained(checkpoint)
    return videos.map_batches(preprocess_clips, fn_kwargs={"config": config}, batch_size=1)


_READ: Mapping[str, Callable[[str, str], ray.data.Dataset]] = {
    "image-classification": _images,
    "optical-flow": _pairs,
    "multimodal-autoencoding": _clips,
}


if __name__ == "__main__":
    parsed = ScriptOptions.parse("Predict with transformers under Ray Data, without fault tolerance.")
    ray.init(address="local", log_to_driver=False)
    write(parsed)
