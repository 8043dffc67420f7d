"""`Predictor`: a loaded model that predicts the items of a list, or the rows of a batch of columns."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.formatting import counted
from pipeline.predictor.batch_columns import find_columns, is_batch, items_of, joined, names_of
from pipeline.predictor.item_content import is_video
from pipeline.predictor.predicted_rows import ERROR_COLUMNS
from pipeline.predictor.predictor_options import predictor_options
from pipeline.predictor.unit_predictor import UnitPredictor
from pipeline.runtime.errors import UsageError
from pipeline.sinks.parts import Quarantined
from pipeline.sinks.schema import kept_names

Result: TypeAlias = dict[str, Any] | Quarantined
"""The columns of one unit by name, or why it cannot be predicted."""

Batch = TypeVar("Batch")


class Predictor:
    """Predicts single items with the code of `perceiver run`, without files of a run and without Ray.

    In a list an item is

    - for images: a path or URI, the bytes of a file, a PIL image, or an array uint8 [H, W, 3];
    - for texts: a str or UTF-8 bytes;
    - for optical flow: a pair of images, a `FramePair`, or a video as a path or bytes;
    - for clips: a `Clip`, a pair of frames uint8 [T, H, W, 3] and samples float32 [S], or a video;
    - for the bare model: an array [M, C].

    It is also a callable class for `map_batches` of Ray Data, see `__call__`. It may be called from several threads. A
    pickle holds its arguments only; the copy loads the model when it is first called.
    """

    def __init__(
        self,
        task: str,
        *,
        checkpoint: str | os.PathLike[str],
        column: str | Sequence[str] | None = None,
        threads: int | None = None,
        **options: Any,
    ) -> None:
        """Load the model.

        Args:
            task: image-classification, text-classification, fill-mask, optical-flow, multimodal-autoencoding or
                feature-extraction.
            checkpoint: Hugging Face Hub id, folder or URI with config.json and the weights, or `demo`.
            column: Column of a batch that holds the items; for image pairs two, "left,right"; for clips also
                "frames,samples". By default the one column with a usual name: image, video, bytes, text or inputs, or
                path if none of them is there.
            threads: Threads of torch on a CPU. Default: as many as torch has in this process. Ray gives a worker one
                per CPU of its `num_cpus`.
            options: Those of `perceiver run` with underscores: dtype, device, batch_size; top_k, logits, latents,
                arrays, array_dtype, points, frames, outputs; blank_text, fps, start, end, max_side,
                flow_scale, clip_stride, short_clip, transparency; unit_seconds, unit_memory, trusted_inputs.

        Raises:
            UsageError: The task or an option is unknown, wrong, or not supported by the task.
            CheckpointError: The checkpoint cannot be found or read, or is one of another task.
            AccessError: Permission for the checkpoint is denied.
        """
        self._task, self._checkpoint, self._column = task, os.fspath(checkpoint), column
        self._threads, self._options = threads, options
        self._digest: str | None = None
        self._model: UnitPredictor | None = None
        self._lock = threading.Lock()
        self._digest = self._loaded().digest

    @overload
    def __call__(self, items: list[Any] | tuple[Any, ...]) -> list[Result | list[Result]]: ...

    @overload
    def __call__(self, items: Batch) -> Batch: ...

    def __call__(self, items: Any) -> Any:
        """Predict a list of items, or a batch of columns.

        A list gives a list: for each item a dict with the columns of a row in Parquet, or a `Quarantined` with the
        reason if it cannot be predicted; for a video the list of these for all of its frame pairs or clips. Lists of
        numbers are arrays: flow [H, W, 2], latents [N, D], or [T, N, D] of a frame in T tiles or a text in T windows.

        A batch (a dict of arrays, a DataFrame or an Arrow table) gives one of the same kind: its own columns, those
        of the prediction, and `error` and `message`, which are null if the row was predicted; otherwise all others are.
        An own column with the name of one that is added gets the prefix `input_`. A video gives several rows.

        Raises:
            UsageError: No column, or more than one, can hold the items of a batch.
            TypeError: `items` is a single item.
            CheckpointChanged: The checkpoint changed since it was loaded.
            NotStarted: The child process that reads files cannot start.
        """
        if is_batch(items):
            return self._predict_batch(items)
        if isinstance(items, str | bytes | os.PathLike | np.ndarray | Image.Image):
            raise TypeError(f"items must be a list, got a single {type(items).__name__}: write predictor([item])")
        return self._predict_list(list(items))

    def video(self, video: str | os.PathLike[str] | bytes) -> Iterator[Result]:
        """Yield the result of each frame pair or clip of a video as it is read, for videos of any length.

        Raise UsageError if the task is not one on videos, and else what a call raises.
        """
        model = self._loaded()
        if not is_video(video, model.medium):
            kind = type(video).__name__
            raise UsageError(f"video() needs a task on videos and a path or bytes, got {self._task} and a {kind}")
        for _, rows in model.predict([video]):
            yield from rows.results()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is assumed about the checkpoint, in words."""
        return self._loaded().notes

    def __repr__(self) -> str:
        words = f"Predictor({self._task!r}, checkpoint={self._checkpoint!r})"
        if self._model is None:
            return words
        ref = self._model.ref
        return "\n".join(
            [f"{words}: {ref.dtype} on {ref.device}, {counted(ref.threads, 'thread')}", *self._model.notes]
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_model", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._model, self._lock = None, threading.Lock()

    def _loaded(self) -> UnitPredictor:
        with self._lock:
            if self._model is None:
                options = predictor_options(self._task, self._checkpoint, self._options)
                self._model = UnitPredictor(options, threads=self._threads, digest=self._digest)
            return self._model

    def _predict_list(self, items: list[Any]) -> list[Any]:
        model = self._loaded()
        results: list[list[Result]] = [[] for _ in items]
        for owners, rows in model.predict(items):
            for owner, result in zip(owners, rows.results(), strict=True):
                results[owner].append(result)
        return [found if is_video(item, model.medium) else found[0] for item, found in zip(items, results, strict=True)]

    def _predict_batch(self, batch: Any) -> Any:
        names = names_of(batch)
        if not names:  # an empty block of Ray Data may have no schema
            return batch
        model = self._loaded()
        columns = find_columns(names, model.medium, self._column)
        schema = pa.schema([*model.schema, *((name, pa.string()) for name in ERROR_COLUMNS)])
        owners: list[int] = []
        tables: list[pa.Table] = []
        for numbers, rows in model.predict(items_of(batch, columns)):
            owners += numbers
            tables.append(rows.with_errors())
        own = kept_names(dict.fromkeys(schema.names, ""), names, identity=())
        return joined(batch, own, owners, pa.concat_tables(tables or [schema.empty_table()]))
