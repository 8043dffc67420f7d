"""The same work as Daft's documentation would have one write it: a class UDF that holds transformers' model.

    python -m pipeline.benchmark.baseline_daft image-classification INPUT OUTPUT --checkpoint FOLDER

Needs the extra `daft`. As with `plain_ray`, nothing is retried, quarantined or resumed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import daft
import numpy as np
from daft import DataType, Series
from transformers import PerceiverConfig, PerceiverImageProcessorPil

from pipeline.benchmark.baseline import Asked, preprocess_clips, preprocess_images, preprocess_pairs

_LABEL = {"label_id": DataType.int64(), "label": DataType.string(), "score": DataType.float32()}
_FLOW = {"path": DataType.string(), "frame_index": DataType.int64(), "flow": DataType.binary()}
_CLIP = {"path": DataType.string(), "clip_index": DataType.int64(), "label_id": DataType.int64()}
_CLIP |= {"pixels": DataType.binary(), "audio": DataType.binary()}


class Model:
    """Predicts pictures in batches, films one after another."""

    def __init__(self, asked: Asked) -> None:
        made_by, arguments = asked.predictor(threads=len(os.sched_getaffinity(0)))
        self.predictor = made_by(**arguments)
        config = PerceiverConfig.from_pretrained(asked.checkpoint)
        if asked.task == "image-classification":
            self.processor = PerceiverImageProcessorPil.from_pretrained(asked.checkpoint)
        elif asked.task == "optical-flow":
            self.parts = partial(preprocess_pairs, size=(config.train_size[0], config.train_size[1]))
        else:
            self.parts = partial(preprocess_clips, config=config)

    def classify_images(self, path: Series, image: Series) -> list[dict[str, Any]]:
        """The best label of each picture."""
        batch = {"path": path.to_pylist(), "image": [np.asarray(each) for each in image.to_pylist()]}
        found = self.predictor(preprocess_images(batch, self.processor))
        columns = [found[name] for name in _LABEL]
        return [dict(zip(_LABEL, map(_plain, row), strict=True)) for row in zip(*columns, strict=True)]

    def film(self, path: str, content: bytes) -> Iterator[dict[str, Any]]:
        """What the model makes of each pair or clip of a film; arrays as their bytes."""
        for batch in self.parts({"path": [path], "bytes": [content]}):
            yield {name: _plain(values[0]) for name, values in self.predictor(batch).items()}


def _plain(value: Any) -> Any:
    """A value as Daft takes it: bytes of an array, Python's of numpy's number."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return value.item() if isinstance(value, np.generic) else value


def write(asked: Asked) -> None:
    """Predict all files of a folder into Parquet, with one model and all CPUs."""
    model = _served(asked)(asked)
    files = daft.from_glob_path(f"{asked.input}/*").select("path")
    content = daft.col("path").download()
    if asked.task == "image-classification":
        pictures = files.with_column("image", content.decode_image(mode="RGB"))
        predicted = pictures.select("path", model.classify_images(pictures["path"], pictures["image"]))
    else:
        films = files.with_column("content", content)
        predicted = films.select(model.film(films["path"], films["content"]))
    predicted.write_parquet(asked.output)


def _served(asked: Asked) -> Any:
    """The class as Daft serves it: one of it, with a GPU where it predicts on one."""
    films = DataType.struct(_FLOW if asked.task == "optical-flow" else _CLIP)
    batch = daft.method.batch(return_dtype=DataType.struct(_LABEL), unnest=True, batch_size=asked.batch_size)
    methods = {
        "classify_images": batch(Model.classify_images),
        "film": daft.method(return_dtype=films, unnest=True)(Model.film),
    }
    served = type("Served", (Model,), methods)
    return daft.cls(served, gpus=int(asked.device == "cuda"), max_concurrency=1, use_process=True)


if __name__ == "__main__":
    write(Asked.parse("Predict with transformers under Daft, plainly."))
