"""Parity of engine and transformers: the greatest difference of every output for the same inputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PerceiverConfig

from pipeline.checkpoints import fetch, shipped_ref
from pipeline.perceiver import CheckpointError, PerceiverIO
from pipeline.reference import published_configs, transformers_model
from pipeline.reference.sample_inputs import SampleInputs, sample_inputs, sample_mask, sample_unit, to_device
from pipeline.reference.transformers_model import Outputs
from pipeline.storage.uris import check_uri

TRANSFORMERS, UNFOLDED = "transformers", "the engine without folding"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Difference of one engine output in `dtype` from transformers' in float32, or from the unfolded engine's."""

    output: str
    dtype: str
    against: str
    max_abs_diff: float
    range: float  # maximum minus minimum of the other output
    relative: float  # max_abs_diff / range, or / the value if there is only one


@torch.inference_mode()
def engine_predict(
    model: PerceiverIO, inputs: SampleInputs, mask: Tensor | None = None, *, points: Any = None
) -> Outputs:
    """Return the engine's latents and outputs, named as by `transformers_model.predict`."""
    latents = model.encode(inputs, mask)
    if model.model_class == published_configs.BARE:
        return {"latents": latents}
    outputs = model.decode(latents, points, inputs=inputs)
    if isinstance(outputs, dict):
        return {"latents": latents, **outputs}
    return {"latents": latents, "flow" if model.model_class == published_configs.FLOW else "logits": outputs}


def sample_prediction(
    folder: Path, *, dtype: str = "float32", device: str = "cpu", batch: int = 1
) -> Callable[[], Outputs]:
    """Load the engine from a checkpoint. Return a function that predicts one batch of sample units with it."""
    model = PerceiverIO.from_pretrained(str(folder), device=device, dtype=getattr(torch, dtype))
    inputs, points = sample_unit(model.config, model.model_class, batch)
    points = None if points is None else points.to(device)
    return partial(engine_predict, model, to_device(inputs, device, model.dtype), points=points)


def differences(ours: Outputs, theirs: Outputs, dtype: str, against: str = TRANSFORMERS) -> list[Difference]:
    """Return a row per output of `theirs`. ValueError if the shape in `ours` differs."""
    return [_difference(name, ours[name], theirs[name], dtype, against) for name in theirs]


def _difference(name: str, ours: Tensor, theirs: Tensor, dtype: str, against: str) -> Difference:
    if ours.shape != theirs.shape:
        raise ValueError(
            f"{name}: the engine returned the shape {list(ours.shape)}, but {against} {list(theirs.shape)}"
        )
    ours, theirs = ours.double(), theirs.double()
    greatest, spread = float((ours - theirs).abs().max()), float(theirs.max() - theirs.min())
    scale = spread or float(theirs.abs().max()) or 1.0  # a single value has no range
    return Difference(
        output=name, dtype=dtype, against=against, max_abs_diff=greatest, range=spread, relative=greatest / scale
    )


def spread_chunks(config: PerceiverConfig, chunks: int | None) -> list[int]:
    """Return the numbers of `chunks` evenly spaced chunks of a clip, first and last included; None: all."""
    of = transformers_model.num_chunks(config)
    if chunks is None or chunks >= of:
        return list(range(of))
    if chunks < 1:
        raise ValueError(f"chunks ({chunks}) must be at least 1")
    return [round(i * (of - 1) / max(1, chunks - 1)) for i in range(chunks)]


def reference_outputs(model: Any, inputs: SampleInputs, mask: Tensor | None, chunks: Sequence[int]) -> Outputs:
    """Return transformers' outputs; for a clip only of the numbered chunks, each with its own encoding."""
    if type(model).__name__ != published_configs.MULTIMODAL:
        return transformers_model.predict(model, inputs, mask)
    points = (transformers_model.chunk_points(model.config, chunk) for chunk in chunks)
    return transformers_model.join_chunks(
        transformers_model.predict(model, inputs, mask, points=chunk) for chunk in points
    )


def select_chunks(outputs: Outputs, config: PerceiverConfig, chunks: Sequence[int]) -> Outputs:
    """Return a clip's outputs at the numbered chunks. Outputs of other tasks are returned unchanged."""
    if "audio" not in outputs:
        return outputs
    all_points = [transformers_model.chunk_points(config, chunk) for chunk in chunks]
    audio, image = (torch.cat([points[name] for points in all_points]) for name in ("audio", "image"))  # type: ignore[misc]
    patches = outputs["audio"].unflatten(1, (-1, config.samples_per_patch))
    return {**outputs, "audio": patches[:, audio].flatten(1), "image": outputs["image"][:, image]}


def verify(
    task: str,
    ref: str | Path,
    *,
    dtypes: Sequence[str] = ("float32", "bfloat16"),
    batch: int = 1,
    seed: int = 0,
    chunks: int | None = 3,
    device: str = "cpu",
) -> list[Difference]:
    """Compare every output of a checkpoint in every dtype with transformers in float32, on `batch` sample units.

    `ref` is a hub id, folder, URI or `demo`. Of a clip's 128 chunks only `chunks` are compared (None: all): each costs
    transformers an encoding, about 3 s at the published size. In a batch of texts all but the first are padded. float32
    outputs are also compared with the unfolded engine, which shows the error of folding weights at load.
    CheckpointError if the checkpoint's class does not support the task, or transformers would not read the names of its
    tensors; AccessError if a URI holds secrets.
    """
    folder = fetch(shipped_ref(check_uri(str(ref)), task))
    model_class = _check_task(task, folder)
    if notes := PerceiverIO.check_pretrained(folder):  # transformers would draw random weights for names it lacks
        raise CheckpointError(f"{notes[0]}; transformers does not do that: save the model with save_pretrained() first")
    theirs = transformers_model.load(folder, device=device)
    config, numbers = theirs.config, spread_chunks(theirs.config, chunks)
    sample = sample_inputs(config, model_class, batch, seed, padded=True)
    mask = sample_mask(sample)
    mask = None if mask is None else mask.to(device)
    expected = reference_outputs(theirs, to_device(sample, device, torch.float32), mask, numbers)
    if task == "feature-extraction":
        expected = {"latents": expected["latents"]}
    del theirs  # memory for one published model is enough

    def predict(dtype: str, *, fold: bool = True) -> Outputs:
        ours = PerceiverIO.from_pretrained(str(folder), device=device, dtype=getattr(torch, dtype), fold=fold)
        return select_chunks(engine_predict(ours, to_device(sample, device, ours.dtype), mask), config, numbers)

    rows = []
    for name in dtypes:
        found = predict(name)
        rows += differences(found, expected, name)
        if name == "float32":
            unfolded = predict(name, fold=False)
            rows += differences(found, {each: unfolded[each] for each in expected}, name, UNFOLDED)
    return rows


def _check_task(task: str, folder: Path) -> str:
    if task not in published_configs.TASKS:
        raise ValueError(f"task {task!r} must be one of {', '.join(published_configs.TASKS)}")
    model_class = transformers_model.model_class_of(folder)
    if model_class not in published_configs.TASKS[task]:
        needed = " or ".join(published_configs.TASKS[task])
        raise CheckpointError(f"{folder} holds a {model_class}; {task} needs {needed}")
    return model_class
