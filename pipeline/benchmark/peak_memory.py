"""The memory that loading a checkpoint and predicting a unit with it takes, measured in a process of its own."""

from __future__ import annotations

import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from pipeline.perceiver import PerceiverIO
from pipeline.reference.parity import engine_predict
from pipeline.reference.sample_inputs import sample_unit, to_device


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Greatest memory of the whole process, imports and loading included; on CUDA of torch's allocator."""

    bytes: int
    outputs: dict[str, list[int]]  # the shape of everything that was predicted


def measure_peak(folder: Path, *, dtype: str = "float32", device: str = "cpu", batch: int = 1, seed: int = 0) -> Peak:
    """Loads the checkpoint in a fresh process and predicts one batch of sample units there. Linux only."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_predict_once, folder, dtype, device, batch, seed).result()


def _predict_once(folder: Path, dtype: str, device: str, batch: int, seed: int) -> Peak:
    model = PerceiverIO.from_pretrained(str(folder), device=device, dtype=getattr(torch, dtype))
    inputs, points = sample_unit(model.config, model.model_class, batch, seed)
    points = None if points is None else points.to(device)
    outputs = engine_predict(model, to_device(inputs, device, model.dtype), points=points)
    shapes = {name: list(value.shape) for name, value in outputs.items()}
    return Peak(bytes=_peak_bytes(device), outputs=shapes)


def _peak_bytes(device: str) -> int:
    if device != "cpu":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return high_water()


def high_water(process: int | str = "self") -> int:
    """The most bytes of memory that a process of this machine has had so far. Linux only."""
    # Not getrusage: a child's maximum there starts from its parent's.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    if found is None:
        raise OSError(f"/proc/{process}/status has no VmHWM line: peak memory can be measured on Linux only")
    return int(found[1]) * 1024
