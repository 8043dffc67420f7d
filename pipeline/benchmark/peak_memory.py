"""Peak memory of loading a checkpoint and predicting one batch, measured in a separate process."""

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
class PeakMemory:
    """Peak memory of the whole process, imports and loading included; on CUDA that of torch's allocator."""

    bytes: int
    outputs: dict[str, list[int]]  # shape of each output


def measure_peak(
    folder: Path, *, dtype: str = "float32", device: str = "cpu", batch: int = 1, seed: int = 0
) -> PeakMemory:
    """Load the checkpoint in a new process and predict one batch of sample units there. Linux only."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_predict_once, folder, dtype, device, batch, seed).result()


def _predict_once(folder: Path, dtype: str, device: str, batch: int, seed: int) -> PeakMemory:
    model = PerceiverIO.from_pretrained(str(folder), device=device, dtype=getattr(torch, dtype))
    inputs, points = sample_unit(model.config, model.model_class, batch, seed)
    points = None if points is None else points.to(device)
    outputs = engine_predict(model, to_device(inputs, device, model.dtype), points=points)
    shapes = {name: list(value.shape) for name, value in outputs.items()}
    return PeakMemory(bytes=_peak_bytes(device), outputs=shapes)


def _peak_bytes(device: str) -> int:
    if device != "cpu":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return peak_resident_bytes()


def peak_resident_bytes(process: int | str = "self") -> int:
    """Return the peak resident memory of a process of this machine so far, in bytes. Linux only."""
    # Not getrusage, whose maximum for a child starts from its parent's.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    if found is None:
        raise OSError(f"/proc/{process}/status has no VmHWM line: peak memory can be measured on Linux only")
    return int(found[1]) * 1024
