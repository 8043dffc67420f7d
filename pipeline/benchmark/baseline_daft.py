"""A plain Daft script, as in Daft's documentation: a class UDF that holds transformers' model.

    python -m pipeline.benchmark.baseline_daft image-classification INPUT OUTPUT --checkpoint FOLDER

Needs the extra `daft`. No retry, quarantine or resume.
"""

import os
from collections.abc import Iterator
from typing import Any

import daft
import numpy as np
from daft import DataType, Series

from pipeline.benchmark.baseline import PREDICTORS, ScriptOptions

_LABEL = {"label_id": DataType.int64(), "label": DataType.string(), "score": DataType.float32()}
_FLOW = {"path": DataType.string(), "frame_index": DataType.int64(), "flow": DataType.binary()}
_CLIP = {"path": DataType.string(), "clip_index": DataType.int64(), "label_id": DataType.int64()}
_CLIP |= {"pixels": DataType.binary(), "audio": DataType.binary()}


class Model:
    """Predicts images in batches, and videos one at a time."""

    def __init__(self, options: ScriptOptions) -> None:
        self.predictor = PREDICTORS[options.task](options, threads=len(os.sched_getaffinity(0)))
        self.preprocess = options.preprocessor()

    def classify_images(self, path: Series, image: Series) -> list[dict[str, Any]]:
        """Predict the best label of each image."""
        batch = {"path": path.to_pylist(), "image": [np.asarray(each) for each in image.to_pylist()]}
        found = self.predictor(self.preprocess(batch))
        columns = [found[name] for name in _LABEL]
        return [dict(zip(_LABEL, map(_plain, row), strict=True)) for row in zip(*columns, strict=True)]

    def predict_video(self, path: str, content: bytes) -> Iterator[dict[str, Any]]:
        """Yield a row per frame pair or clip of a video; arrays as bytes."""
        for batch in self.preprocess({"path": [path], "bytes": [content]}):
            yield {name: _plain(values[0]) for name, values in self.predictor(batch).items()}


def _plain(value: Any) -> Any:
    """Return the bytes of an array, or the Python value of a NumPy scalar."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return value.item() if isinstance(value, np.generic) else value


def write(options: ScriptOptions) -> None:
    """Predict all files of a folder into Parquet files, with one model on all CPUs."""
    model = _served(options)(options)
    files = daft.from_glob_path(f"{options.input}/*").select("path")
    content = daft.col("path").download()
    if options.task == "image-classification":
        images = files.with_column("image", content.decode_image(mode="RGB"))
        predicted = images.select("path", model.classify_images(images["path"], images["image"]))
    else:
        videos = files.with_column("content", content)
        predicted = videos.select(model.predict_video(videos["path"], videos["content"]))
    predicted.write_parquet(options.output)


def _served(options: ScriptOptions) -> Any:
    """Return the model as a Daft class UDF: one instance, on a GPU if the device is one."""
    videos = DataType.struct(_FLOW if options.task == "optical-flow" else _CLIP)
    batch = daft.method.batch(return_dtype=DataType.struct(_LABEL), unnest=True, batch_size=options.batch_size)
    methods = {
        "classify_images": batch(Model.classify_images),
        "predict_video": daft.method(return_dtype=videos, unnest=True)(Model.predict_video),
    }
    served = type("Served", (Model,), methods)
    return daft.cls(served, gpus=int(options.device == "cuda"), max_concurrency=1, use_process=True)


if __name__ == "__main__":
    write(ScriptOptions.parse("Predict with transformers under Daft, without fault tolerance."))
