"""A plain Ray Data script: read, preprocess, predict in an actor and write Parquet, as in the documentation of Ray Data
and transformers.

    python -m pipeline.benchmark.baseline_ray image-classification INPUT OUTPUT --checkpoint FOLDER

No retry, quarantine, resume, or limits on reading. One task reads a whole video.
"""

import ray
import ray.data

from pipeline.benchmark.baseline import PREDICTORS, ScriptOptions


def write(options: ScriptOptions) -> None:
    """Predict all inputs into Parquet files, with one model on all CPUs."""
    if options.task == "image-classification":
        images = ray.data.read_images(options.input, include_paths=True, mode="RGB")
        inputs = images.map_batches(options.preprocessor(), batch_size=8)
    else:
        videos = ray.data.read_binary_files(options.input, include_paths=True)
        inputs = videos.map_batches(options.preprocessor(), batch_size=1)
    predicted = inputs.map_batches(
        PREDICTORS[options.task],
        fn_constructor_kwargs={"options": options, "threads": max(1, int(ray.cluster_resources()["CPU"]))},
        compute=ray.data.ActorPoolStrategy(size=1),
        batch_size=options.batch_size,
        num_gpus=1 if options.device == "cuda" else None,
    )
    predicted.write_parquet(options.output)


if __name__ == "__main__":
    parsed = ScriptOptions.parse("Predict with transformers under Ray Data, without fault tolerance.")
    ray.init(address="local", log_to_driver=False)
    write(parsed)
