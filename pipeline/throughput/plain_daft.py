"""The same work as Daft's documentation would have one write it: a class UDF that holds transformers' model.

    python -m pipeline.throughput.plain_daft image-classification INPUT OUTPUT --checkpoint FOLDER

Needs the extra `daft`. As with `plain_ray`, nothing is retried, quarantined or resumed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import daft
import numpy as np
from daft import DataType, Series
from transformers import PerceiverConfig, PerceiverImageProcessorPil

from pipeline.throughput.plain import (
    PREDICTORS,
    Batch,
    parse,
    predictor_arguments,
    preprocess_clips,
    preprocess_images,
    preprocess_pairs,
)
from pipeline.throughput.watching import WatchedPredictor

_LABEL = {"label_id": DataType.int64(), "label": DataType.string(), "score": DataType.float32()}
_FLOW = {"path": DataType.string(), "frame_index": DataType.int64(), "flow": DataType.binary()}
_CLIP = {"path": DataType.string(), "clip_index": DataType.int64(), "label_id": DataType.int64()}
_CLIP |= {"pixels": DataType.binary(), "audio": DataType.binary()}


class Model:
    """Predicts pictures in batches, films one after another."""

    def __init__(self, task: str, arguments: Mapping[str, Any], notes: str | None) -> None:
        """`notes`: a file that takes down when the model was ready and how long each call took, None for none."""
        self.task, kind, checkpoint = task, PREDICTORS[task], arguments["checkpoint"]
        self.predictor: Callable[[Batch], Batch] = (
            WatchedPredictor(predictor=kind, notes=notes, **arguments) if notes else kind(**arguments)
        )
        if task == "image-classification":
            self.processor = PerceiverImageProcessorPil.from_pretrained(checkpoint)
        config = PerceiverConfig.from_pretrained(checkpoint)
        size = config.train_size[0], config.train_size[1]
        flow = task == "optical-flow"
        self.parts = partial(preprocess_pairs, size=size) if flow else partial(preprocess_clips, config=config)

    def pictures(self, path: Series, image: Series) -> list[dict[str, Any]]:
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


def write(
    task: str,
    inputs: str,
    output: str,
    checkpoint: str,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    batch_size: int = 1,
    chunks: int | None = None,
    notes: str | None = None,
) -> None:
    """Predict all files of a folder into Parquet, with one model and all CPUs."""
    threads = len(os.sched_getaffinity(0))
    arguments = predictor_arguments(task, checkpoint, dtype=dtype, device=device, threads=threads, chunks=chunks)
    model = _served(task, device, batch_size)(task, arguments, notes)
    files = daft.from_glob_path(f"{inputs}/*").select("path")
    content = daft.col("path").download()
    if task == "image-classification":
        pictures = files.with_column("image", content.decode_image(mode="RGB"))
        predicted = pictures.select("path", model.pictures(pictures["path"], pictures["image"]))
    else:
        films = files.with_column("content", content)
        predicted = films.select(model.film(films["path"], films["content"]))
    predicted.write_parquet(output)


def _served(task: str, device: str, batch_size: int) -> Any:
    """The class as Daft serves it: one of it, with a GPU where it predicts on one."""
    films = DataType.struct(_FLOW if task == "optical-flow" else _CLIP)
    labels = DataType.struct(_LABEL)
    methods = {
        "pictures": daft.method.batch(return_dtype=labels, unnest=True, batch_size=batch_size)(Model.pictures),
        "film": daft.method(return_dtype=films, unnest=True)(Model.film),
    }
    served = type("Served", (Model,), methods)
    return daft.cls(served, gpus=int(device == "cuda"), max_concurrency=1, use_process=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The script from the command line."""
    given = parse("Predict with transformers under Daft, plainly.", arguments)
    write(given.pop("task"), given.pop("input"), given.pop("output"), given.pop("checkpoint"), **given)


if __name__ == "__main__":
    main()
