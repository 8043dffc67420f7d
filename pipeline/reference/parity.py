"""The engine against transformers on the same inputs: the greatest difference of every output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PerceiverConfig

from pipeline.checkpoints import fetch
from pipeline.perceiver import CheckpointError, PerceiverIO
from pipeline.reference import published_configs, transformers_model
from pipeline.reference.sample_inputs import SampleInputs, sample_inputs, sample_mask, to_device
from pipeline.reference.transformers_model import Outputs
from pipeline.storage.uris import check_uri

TRANSFORMERS, UNFOLDED = "transformers", "the engine without folding"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One output of the engine in `dtype` beside transformers' in float32, or the engine's without folding."""

    output: str
    dtype: str
    against: str
    max_abs_diff: float
    range: float  # greatest minus smallest value of the other output
    relative: float  # max_abs_diff / range; where there is one value only, / that value


@torch.inference_mode()
def engine_predict(
    model: PerceiverIO, inputs: SampleInputs, mask: Tensor | None = None, *, points: Any = None
) -> Outputs:
    """The engine's latents and outputs under the same names as `oracle.predict` gives them."""
    latents = model.encode(inputs, mask)
    if model.model_class == published_configs.BARE:
        return {"latents": latents}
    outputs = model.decode(latents, points, inputs=inputs)
    if isinstance(outputs, dict):
        return {"latents": latents, **outputs}
    return {"latents": latents, "flow" if model.model_class == published_configs.FLOW else "logits": outputs}


def differences(ours: Outputs, theirs: Outputs, dtype: str, against: str = TRANSFORMERS) -> list[Difference]:
    """A row for every output of `theirs`, which must be in `ours` in the same shape."""
    return [_difference(name, ours[name], theirs[name], dtype, against) for name in theirs]


def _difference(name: str, ours: Tensor, theirs: Tensor, dtype: str, against: str) -> Difference:
    if ours.shape != theirs.shape:
        raise ValueError(f"{name}: the engine's shape is {list(ours.shape)}, that of {against} is {list(theirs.shape)}")
    ours, theirs = ours.double(), theirs.double()
    greatest, spread = float((ours - theirs).abs().max()), float(theirs.max() - theirs.min())
    scale = spread or float(theirs.abs().max()) or 1.0  # one label of one unit has no range
    return Difference(
        output=name,
        dtype=dtype,
        against=against,
        max_abs_diff=greatest,
        range=spread,
        relative=greatest / scale,
    )


def spread_chunks(config: PerceiverConfig, chunks: int | None) -> list[int]:
    """Numbers of `chunks` of a clip's passes, the first and the last among them; all of them for None."""
    of = transformers_model.num_chunks(config)
    if chunks is None or chunks >= of:
        return list(range(of))
    if chunks < 1:
        raise ValueError(f"chunks ({chunks}) must be at least 1")
    return [round(i * (of - 1) / max(1, chunks - 1)) for i in range(chunks)]


def reference_outputs(model: Any, inputs: SampleInputs, mask: Tensor | None, chunks: Sequence[int]) -> Outputs:
    """transformers' outputs; of a clip only the numbered chunks, with an encoding for each."""
    if type(model).__name__ != published_configs.MULTIMODAL:
        return transformers_model.predict(model, inputs, mask)
    points = (transformers_model.chunk_points(model.config, chunk) for chunk in chunks)
    return transformers_model.join_chunks(
        transformers_model.predict(model, inputs, mask, points=asked) for asked in points
    )


def select_chunks(outputs: Outputs, config: PerceiverConfig, chunks: Sequence[int]) -> Outputs:
    """What a whole clip's outputs hold at the numbered chunks; other heads' outputs pass through."""
    if "audio" not in outputs:
        return outputs
    asked = [transformers_model.chunk_points(config, chunk) for chunk in chunks]
    audio, image = (torch.cat([points[name] for points in asked]) for name in ("audio", "image"))  # type: ignore[misc]
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
    """Every output of checkpoint `ref` in every dtype against transformers in float32, `batch` sample units.

    `ref` is a hub id, folder or URI. Of a clip's 128 chunks transformers is asked for `chunks` only (None: all): each
    costs it an encoding, about 3 s at the published size. Of a text batch all but the first are padded. What float32
    gives is compared with the engine without folding, too: how exact the products are that were formed at load.
    CheckpointError where the checkpoint's class has no such task; AccessError where a URI holds secrets.
    """
    folder = fetch(check_uri(str(ref)))
    model_class = _check_task(task, folder)
    theirs = transformers_model.load(folder, device=device)
    config, numbers = theirs.config, spread_chunks(theirs.config, chunks)
    sample = sample_inputs(config, model_class, batch, seed, padded=True)
    mask = sample_mask(sample)
    mask = None if mask is None else mask.to(device)
    expected = reference_outputs(theirs, to_device(sample, device, torch.float32), mask, numbers)
    if task == "feature-extraction":
        expected = {"latents": expected["latents"]}
    del theirs  # two published models need not fit side by side
    rows = []
    for name in dtypes:
        ours = PerceiverIO.from_pretrained(str(folder), device=device, dtype=getattr(torch, name))
        outputs = engine_predict(ours, to_device(sample, device, ours.dtype), mask)
        found = select_chunks(outputs, config, numbers)
        rows += differences(found, expected, name)
        if name == "float32":
            plain = _unfolded(folder, sample, mask, device, numbers)
            rows += differences(found, {each: plain[each] for each in expected}, name, UNFOLDED)
    return rows


def _unfolded(folder: Path, sample: SampleInputs, mask: Tensor | None, device: str, chunks: Sequence[int]) -> Outputs:
    plain = PerceiverIO.from_pretrained(str(folder), device=device, fold=False)
    return select_chunks(engine_predict(plain, to_device(sample, device, plain.dtype), mask), plain.config, chunks)


def _check_task(task: str, folder: Path) -> str:
    if task not in published_configs.TASKS:
        raise ValueError(f"task {task!r} is none of {', '.join(published_configs.TASKS)}")
    model_class = transformers_model.model_class_of(folder)
    if model_class not in published_configs.TASKS[task]:
        needed = " or ".join(published_configs.TASKS[task])
        raise CheckpointError(f"{folder} holds a {model_class}; {task} needs {needed}")
    return model_class
