"""Where the kernels of a replica are started from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    import torch

P = ParamSpec("P")
R = TypeVar("R")

# How often an OpenMP thread looks for work before it sleeps; by itself 300,000 times, which is 6 ms. One that looks
# keeps a CPU from the one that it waits for: with one other process on two CPUs the engine took up to four times as
# long. So few looks bridge the time between two kernels, and cost a few hundredths where nobody else is at work.
OPENMP_ENVIRONMENT = {"GOMP_SPINCOUNT": "3000"}
"""What has to be in a process's environment before torch is."""


class Compute(Protocol):
    """Calls a function, and gives what it gives or raises."""

    def __call__(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """In the thread that kernels are started from."""


class ComputeThread:
    """One thread of the process, whoever calls. Each thread that computes gets OpenMP threads of its own, and where
    they are more than CPUs all of them sleep between any two kernels: a fifth of the time of a small model."""

    def __init__(self, threads: int) -> None:
        """`threads`: of OpenMP."""
        import torch

        self._pool = ThreadPoolExecutor(1, "compute", initializer=torch.set_num_threads, initargs=(threads,))

    def __call__(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """In that thread; waits for those who called before."""
        return self._pool.submit(function, *args, **kwargs).result()


def call_directly(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """In the thread that calls, where the kernels are a GPU's: what goes to it and comes from it then overlaps."""
    return function(*args, **kwargs)


def compute_runner(device: torch.device, threads: int) -> Compute:
    """What a replica on that device computes by."""
    return ComputeThread(threads) if device.type == "cpu" else call_directly
