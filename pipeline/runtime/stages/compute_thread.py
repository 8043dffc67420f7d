"""The thread that runs a replica's kernels. It imports torch late: submitting a job needs only the environment."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch

Compute: TypeAlias = Callable[..., Any]
"""Calls a function with arguments and returns its result."""

# How often an idle OpenMP thread checks for work before it sleeps. The default of 300,000 times takes 6 ms, in which it
# keeps a CPU from the thread that it waits for: with one other process on two CPUs, the engine took up to four times as
# long. 3,000 times bridge the gap between two kernels, and cost a few percent on an idle machine.
OPENMP_ENVIRONMENT = {"GOMP_SPINCOUNT": "3000"}
"""Environment variables that must be set before a process imports torch."""


def compute_runner(device: torch.device, threads: int) -> Compute:
    """Return what runs the kernels of a replica: on a GPU in the caller's thread, so that copies overlap with kernels.

    On a CPU it is one thread with `threads` OpenMP threads, one call at a time. Each thread that computes gets OpenMP
    threads of its own. If these are more than CPUs, all of them sleep between two kernels, which costs a fifth of the
    time of a small model.
    """
    if device.type != "cpu":
        return lambda function, *arguments: function(*arguments)
    import torch

    pool = ThreadPoolExecutor(1, "compute", initializer=torch.set_num_threads, initargs=(threads,))
    return lambda function, *arguments: pool.submit(function, *arguments).result()
