"""Engine and transformers taking turns on one unit: what a bench row is made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import torch
from torch import Tensor

from pipeline.benchmark.peak_memory import Peak
from pipeline.perceiver import PerceiverIO
from pipeline.reference import parity, published_configs, transformers_model
from pipeline.reference.published_configs import Shape
from pipeline.reference.sample_inputs import sample_unit, to_device
from pipeline.reference.transformers_model import Outputs

Row: TypeAlias = dict[str, Any]

_TEXTS = 4  # a unit of fill-mask here is four texts of full length


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """How often and on what; `batch` is for images, every other head has its own unit."""

    device: str = "cpu"
    dtypes: Sequence[str] = ("float32", "bfloat16")
    repeats: int = 5
    batch: int = 1
    chunks: int | None = 2  # of a clip's 128, what transformers is timed on; None: all
    seed: int = 0


@dataclass(kw_only=True)
class Contender:
    """One model in one dtype on the unit: its first outputs, its seconds, or why it has none."""

    predict: Callable[[], Outputs]
    scale: float = 1.0  # what part of the unit was measured, inverted
    outputs: Outputs = field(default_factory=dict)
    failure: str | None = None
    seconds: list[float] = field(default_factory=list)

    def warm_up(self) -> None:
        """Predicts once unmeasured. What fails here is left out of the contest, and its row says why."""
        try:
            self.outputs = self.predict()
        except RuntimeError as error:  # mixed dtypes in transformers' own forward, or out of memory
            self.failure = str(error).partition("\n")[0]

    def take_turn(self, device: str) -> None:
        if self.failure is None:
            began = _now(device)
            self.predict()
            self.seconds.append((_now(device) - began) * self.scale)

    def summary(self, name: str) -> Row:
        """Median and [least, greatest] seconds, None where there are none."""
        if not self.seconds:
            return {f"{name}_seconds": None, f"{name}_seconds_range": None}
        spread = [min(self.seconds), max(self.seconds)]
        return {f"{name}_seconds": median(self.seconds), f"{name}_seconds_range": spread}


def _now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def units(shape: Shape, options: BenchOptions) -> int:
    if shape.task == "fill-mask":
        return _TEXTS
    return options.batch if shape.task == "image-classification" else 1


class Contest:
    """The engine and transformers in every dtype, loaded side by side, and transformers in float32 in any case."""

    def __init__(self, shape: Shape, options: BenchOptions, folder: Path) -> None:
        self.shape, self.options = shape, options
        self.config, self.batch = shape.config(), units(shape, options)
        clip = shape.model_class == published_configs.MULTIMODAL
        self.chunks = parity.spread_chunks(self.config, options.chunks) if clip else []
        self.inputs, self.points = sample_unit(self.config, shape.model_class, self.batch, options.seed)
        self.points = None if self.points is None else self.points.to(options.device)
        self.engine = {name: self._engine(folder, name) for name in options.dtypes}
        self.theirs = {name: self._transformers(folder, name) for name in dict.fromkeys(["float32", *options.dtypes])}

    def _engine(self, folder: Path, dtype: str) -> Contender:
        model = PerceiverIO.from_pretrained(str(folder), device=self.options.device, dtype=getattr(torch, dtype))
        inputs = to_device(self.inputs, self.options.device, model.dtype)
        return Contender(predict=lambda: parity.engine_predict(model, inputs, points=self.points))

    def _transformers(self, folder: Path, dtype: str) -> Contender:
        model = transformers_model.load(folder, dtype=getattr(torch, dtype), device=self.options.device)
        inputs = to_device(self.inputs, self.options.device, model.dtype)
        self.params = sum(parameter.numel() for parameter in model.parameters())
        scale = transformers_model.num_chunks(self.config) / len(self.chunks) if self.chunks else 1.0
        return Contender(predict=lambda: parity.reference_outputs(model, inputs, None, self.chunks), scale=scale)

    def run(self) -> None:
        contenders = [*self.engine.values(), *self.theirs.values()]
        for contender in contenders:
            contender.warm_up()
        for _ in range(self.options.repeats):
            for contender in contenders:
                contender.take_turn(self.options.device)

    def row(self, dtype: str, peak: Peak) -> Row:
        engine, theirs, chunked = self.engine[dtype], self.theirs[dtype], self.chunks
        return {
            "head": self.shape.task,
            "shape": self.shape.name,
            "dtype": dtype,
            "device": self.options.device,
            "batch": self.batch,
            "repeats": self.options.repeats,
            "threads": torch.get_num_threads(),
            **engine.summary("engine"),
            "engine_failure": engine.failure,
            **theirs.summary("transformers"),
            "transformers_failure": theirs.failure,
            **self.theirs["float32"].summary("transformers_float32"),
            "extrapolated_from_chunks": len(chunked)
            if 0 < len(chunked) < transformers_model.num_chunks(self.config)
            else None,
            **self._error(engine, dtype),
            "peak_bytes": peak.bytes,
            "params": self.params,
        }

    def _error(self, engine: Contender, dtype: str) -> Row:
        """The output that strays furthest from transformers' float32, relative to its own range."""
        expected = {name: value for name, value in self.theirs["float32"].outputs.items() if name != "latents"}
        if not expected or engine.failure is not None:
            return {"worst_output": None, "max_abs_err": None, "output_range": None}
        if self.points is not None:
            expected["logits"] = _at(expected["logits"], self.points)
        found = parity.select_chunks(engine.outputs, self.config, self.chunks)
        worst = max(parity.differences(found, expected, dtype), key=lambda row: row.relative)
        return {"worst_output": worst.output, "max_abs_err": worst.max_abs_diff, "output_range": worst.range}


def _at(logits: Tensor, points: Tensor) -> Tensor:
    """Of logits [B, L, V] those at positions [B, P]: transformers decodes every position."""
    return logits.gather(1, points.unsqueeze(-1).expand(-1, -1, logits.shape[-1]))
