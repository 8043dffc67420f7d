"""Threads that compute side by side on a CPU, each by itself.

Threads that share the work of every kernel wait for each other at its end, thousands of times a unit: for whoever has
more to do, was put aside for another process, or had gone to sleep. Work that falls into parts goes to lanes instead,
which wait for each other once. On two CPUs that saves 3 to 12 hundredths of the time, more where others are at work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache, partial
from threading import Barrier, Lock, local
from typing import TypeVar

import torch

P = TypeVar("P")
R = TypeVar("R")

_making = Lock()
_here = local()  # of a thread


def lanes(parts: int, device: torch.device) -> int:
    """How many there are for so many parts: at most one for each, and as many as the threads that whoever calls
    computes with can be dealt out to evenly. 1 on a GPU, and within a lane."""
    there = torch.get_num_threads() if device.type == "cpu" and not hasattr(_here, "is_lane") else 1
    return max(count for count in range(1, max(1, min(parts, there)) + 1) if there % count == 0)


def side_by_side(function: Callable[[P], R], parts: Sequence[P], device: torch.device) -> list[R]:
    """function(part) of each, in order. Raises what the first of them raises, once all are done."""
    count = lanes(len(parts), device)
    if count == 1:
        return [function(part) for part in parts]
    lane = _pool(count, torch.get_num_threads())
    results = [lane.submit(partial(_alike, torch.is_inference_mode_enabled(), function), part) for part in parts]
    wait(results)
    return [result.result() for result in results]


def by_units(function: Callable[[slice], R], count: int, device: torch.device) -> list[R]:
    """function(slice) of all of so many units, in order: as many for each lane; those that are left over go to fewer
    and wider ones."""
    found: list[R] = []
    begin = 0
    while begin < count or not found:  # of no units, too
        many = lanes(count - begin, device)
        each = max(1, (count - begin) // many)
        end = begin + many * each
        found += side_by_side(function, [slice(first, first + each) for first in range(begin, end, each)], device)
        begin = end
    return found


def joined(parts: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor:
    """All of them one behind the other; a single one as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch with so many threads for the time of the block, in the thread that calls."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _alike(inference: bool, function: Callable[[P], R], part: P) -> R:
    """In the mode that whoever called is in: it is a thread's own."""
    with torch.inference_mode(inference):
        return function(part)


def _pool(count: int, together: int) -> ThreadPoolExecutor:
    with _making:
        return _made(count, together)


@cache
def _made(count: int, together: int) -> ThreadPoolExecutor:
    """So many lanes, which have so many threads together."""
    there = Barrier(count + 1)
    pool = ThreadPoolExecutor(count, "lane", initializer=_begin, initargs=(together // count,))
    with threads(together):  # what a lane sets is also what threads begin with that come later, until it is set back
        for _ in range(count):
            pool.submit(there.wait)
        there.wait()
    return pool


def _begin(count: int) -> None:
    torch.get_num_threads()  # the first call in a thread sets what threads begin with, and would do so after this
    torch.set_num_threads(count)
    _here.is_lane = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_made.cache_clear)  # threads are not copied
