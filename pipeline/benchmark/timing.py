"""Times and statistics shared by the benchmarks."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, TypeAlias

import torch

Row: TypeAlias = dict[str, Any]


def seconds(call: Callable[[], object], device: str) -> float:
    """Return the seconds from the call until the device has finished its work."""
    wait = (lambda: None) if device == "cpu" else torch.cuda.synchronize
    wait()
    began = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - began


def median_and_range(name: str, values: Sequence[float]) -> Row:
    """Return {name: median, name_range: [min, max]}; both None if there are no values."""
    if not values:
        return {name: None, f"{name}_range": None}
    return {name: median(values), f"{name}_range": [min(values), max(values)]}
