"""Roofline: the least seconds for the engine's arithmetic on this device.

Matrix products at the device's measured matrix rate, plus exponentials at its softmax rate. The difference to the
measured seconds is memory traffic and overhead.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.benchmark.timing import seconds
from pipeline.perceiver.cpu_parallel import torch_threads
from pipeline.perceiver.onednn_linear import Linear
from pipeline.reference.parity import sample_prediction

_REPEATS = 25


@dataclass(frozen=True, kw_only=True)
class DeviceRates:
    """Operations per second of a device in one dtype."""

    flops: float
    exponentials: float


@dataclass(frozen=True, kw_only=True)
class OperationCounts:
    """Operations of the folded model for one batch of units."""

    flops: int  # of matrix products and convolutions; a multiply-add is two
    exponentials: int  # of softmax

    def seconds(self, rates: DeviceRates) -> float:
        """Return the least seconds, products and exponentials one after the other."""
        return self.flops / rates.flops + self.exponentials / rates.exponentials


@torch.inference_mode()
def count_operations(folder: Path, *, batch: int) -> OperationCounts:
    """Count operations while the engine predicts one batch of sample units on the CPU in float32."""
    predict = sample_prediction(folder, batch=batch)
    predict()  # computes and keeps the model's constants, such as projected queries
    softmaxes = torch.ops.aten._softmax, torch.ops.aten.softmax  # the latter if in place
    mapping: dict[Any, Any] = dict.fromkeys(softmaxes, lambda *_, out_shape, **__: prod(out_shape))
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        linear = torch.ops.mkldnn._linear_pointwise
        mapping[linear] = lambda x_shape, *_, out_shape, **__: 2 * prod(x_shape) * out_shape[-1]
    # The counter sees the operations of its own thread only.
    with torch_threads(1), FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        predict()
    counts = dict(counter.get_flop_counts()["Global"])
    exponentials = sum(counts.pop(softmax, 0) for softmax in softmaxes)
    return OperationCounts(flops=sum(counts.values()), exponentials=exponentials)


def measure_rates(dtype: str, device: str) -> DeviceRates:
    """Measure the best rates of a device: of `F.linear` or packed weights, and of a softmax in the cache."""
    kind: torch.dtype = getattr(torch, dtype)
    side = 1024 if device == "cpu" else 8192
    with torch.inference_mode():
        x, layer = torch.randn(2 * side, side, dtype=kind, device=device), Linear(side, side, device=device, dtype=kind)
        plain = min(seconds(lambda: layer(x), device) for _ in range(_REPEATS))
        layer.pack()
        packed = min(seconds(lambda: layer(x), device) for _ in range(_REPEATS))
        rows = torch.randn(side, 2048, dtype=kind, device=device)
        softmax = min(seconds(lambda: torch.softmax(rows, dim=-1, out=rows), device) for _ in range(_REPEATS))
    return DeviceRates(flops=4 * side**3 / min(plain, packed), exponentials=rows.numel() / softmax)
