"""CPU threads that each compute a share of the units, queries or inputs.

By default all of torch's threads share every kernel and wait for each other at its end, thousands of times per unit.
Work that splits into independent parts runs in worker threads instead, which wait for each other once. On two cores
this saves 3 to 12 % of the time, and more on a busy machine.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from threading import Barrier, Lock, local
from typing import Any, TypeVar

import torch

from pipeline.perceiver.batching import even_slices, slice_units

T = TypeVar("T")
R = TypeVar("R")

_executor_lock = Lock()
_thread = local()


def worker_count(tasks: int, device: torch.device) -> int:
    """Return the number of worker threads for `tasks` tasks.

    This is the largest divisor of the calling thread's torch thread count that is at most `tasks`; 1 on a GPU and
    inside a worker.
    """
    available = torch.get_num_threads() if device.type == "cpu" and not hasattr(_thread, "is_worker") else 1
    return max(count for count in range(1, max(1, min(tasks, available)) + 1) if available % count == 0)


def parallel_map(function: Callable[[T], R], items: Sequence[T], device: torch.device) -> list[R]:
    """Return [function(item) for item in items], computed in worker threads on a CPU.

    If some calls fail, the exception of the first of them is raised after all calls have ended.
    """
    workers = worker_count(len(items), device)
    if workers == 1:
        return [function(item) for item in items]
    with _executor_lock:
        executor = _executor(workers, torch.get_num_threads())
    inference = torch.is_inference_mode_enabled()  # the mode belongs to a thread: workers take the caller's

    def call(item: T) -> R:
        with torch.inference_mode(inference):
            return function(item)

    futures = [executor.submit(call, item) for item in items]
    wait(futures)
    return [future.result() for future in futures]


def map_units(function: Callable[..., R], count: int, device: torch.device, *arguments: Any) -> list[R]:
    """Call function(*arguments) for slices that together cover `count` units in order, one slice per worker thread.

    arguments: tensors of all units, and others that `slice_units` knows. The remainder of the division goes to fewer
    workers with more threads each. With no units, `function` is called once for an empty slice.
    """

    def call(units: slice) -> R:
        return function(*(slice_units(each, units, count) for each in arguments))

    results: list[R] = []
    begin = 0
    while begin < count or not results:
        workers = worker_count(count - begin, device)
        end = begin + workers * max(1, (count - begin) // workers)
        slices = [slice(begin + some.start, begin + some.stop) for some in even_slices(end - begin, workers)]
        results += parallel_map(call, slices, device)
        begin = end
    return results


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of threads that torch uses in the calling thread, for the duration of the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _executor(workers: int, threads: int) -> ThreadPoolExecutor:
    """Return the pool of `workers` threads that use `threads` torch threads in total."""
    started = Barrier(workers + 1)
    executor = ThreadPoolExecutor(workers, "perceiver-worker", initializer=_init_worker, initargs=(threads // workers,))
    # A worker's set_num_threads also changes the count that later threads start with: restore it once all have started.
    with torch_threads(threads):
        for _ in range(workers):
            executor.submit(started.wait)
        started.wait()
    return executor


def _init_worker(threads: int) -> None:
    torch.get_num_threads()  # the first call in a thread sets its count to the default: make it before setting ours
    torch.set_num_threads(threads)
    _thread.is_worker = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_executor.cache_clear)  # a forked process does not inherit threads
