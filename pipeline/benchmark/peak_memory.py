"""Peak memory of loading a checkpoint and predicting one batch, measured in a separate process."""

import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from pipeline.reference.parity import sample_prediction


def measure_peak(
    folder: Path, *, dtype: str = "float32", device: str = "cpu", batch: int = 1
) -> tuple[int, dict[str, list[int]]]:
    """Load the checkpoint in a new process and predict one batch of sample units there. Linux only.

    Returns the peak memory in bytes and the shape of each output. The memory is that of the whole process, imports and
    loading included; on CUDA that of torch's allocator.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_predict_once, folder, dtype, device, batch).result()


def _predict_once(folder: Path, dtype: str, device: str, batch: int) -> tuple[int, dict[str, list[int]]]:
    outputs = sample_prediction(folder, dtype=dtype, device=device, batch=batch)()
    shapes = {name: list(value.shape) for name, value in outputs.items()}
    if device == "cpu":
        return peak_resident_bytes(), shapes
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated(), shapes


def peak_resident_bytes(process: int | str = "self") -> int:
    """Return the peak resident memory of a process of this machine so far, in bytes. Linux only."""
    # Not getrusage, whose maximum for a child starts from its parent's.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    if found is None:
        raise OSError(f"/proc/{process}/status has no VmHWM line: peak memory can be measured on Linux only")
    return int(found[1]) * 1024
