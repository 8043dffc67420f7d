"""The seconds that the engine's arithmetic takes at the least: its products at this device's matrix rate, then its
exponentials at its softmax rate. What is measured beside it shows how much else there is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.perceiver import PerceiverIO
from pipeline.perceiver.cpu_parallel import torch_threads
from pipeline.perceiver.onednn_linear import Linear
from pipeline.reference.parity import engine_predict
from pipeline.reference.sample_inputs import sample_unit

_TURNS = 25


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the folded model has to compute for one batch of units."""

    flops: int  # of matrix products and convolutions, two for a multiplication and its sum
    exponentials: int  # of softmax

    def seconds(self, rates: Rates) -> float:
        """At the least, one after the other."""
        return self.flops / rates.flops + self.exponentials / rates.exponentials


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a device does in a second, in one dtype."""

    flops: float
    exponentials: float


@torch.inference_mode()
def count_work(folder: Path, *, batch: int, seed: int = 0) -> Work:
    """Counted while the engine predicts one batch of sample units on the CPU in float32."""
    model = PerceiverIO.from_pretrained(str(folder))
    inputs, points = sample_unit(model.config, model.model_class, batch, seed)
    # Constants of the model, such as projected queries, are there after the first unit.
    engine_predict(model, inputs, points=points)
    softmaxes = torch.ops.aten._softmax, torch.ops.aten.softmax  # the second is seen where it works in place
    mapping: dict[Any, Any] = dict.fromkeys(softmaxes, _numel)
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        mapping[torch.ops.mkldnn._linear_pointwise] = _linear_flops
    # The counter sees what the thread does that has it: no lanes.
    with torch_threads(1), FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        engine_predict(model, inputs, points=points)
    counts = dict(counter.get_flop_counts()["Global"])
    exponentials = sum(counts.pop(softmax, 0) for softmax in softmaxes)
    return Work(flops=sum(counts.values()), exponentials=exponentials)


def _linear_flops(x_shape: tuple[int, ...], *_: Any, out_shape: tuple[int, ...], **__: Any) -> int:
    return 2 * prod(x_shape) * out_shape[-1]


def _numel(*_: Any, out_shape: tuple[int, ...], **__: Any) -> int:
    return prod(out_shape)


def measure_rates(dtype: str, device: str) -> Rates:
    """The best of this device: of `F.linear` and of packed weights, and of a softmax that stays in the cache."""
    kind: torch.dtype = getattr(torch, dtype)
    side = 1024 if device == "cpu" else 8192
    with torch.inference_mode():
        x, layer = torch.randn(2 * side, side, dtype=kind, device=device), Linear(side, side, device=device, dtype=kind)
        plain = _seconds(lambda: layer(x), device)
        layer.pack()
        packed = _seconds(lambda: layer(x), device)
        rows = torch.randn(side, 2048, dtype=kind, device=device)
        softmax = _seconds(lambda: torch.softmax(rows, dim=-1, out=rows), device)
    return Rates(flops=4 * side**3 / min(plain, packed), exponentials=rows.numel() / softmax)


def _seconds(work: Callable[[], Any], device: str) -> float:
    least = float("inf")
    for _ in range(_TURNS):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        least = min(least, time.perf_counter() - began)
    return least


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
