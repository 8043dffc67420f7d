"""Batch sizes learned while predicting: what fits on the device, and what is fast. Nothing is computed for it alone."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field

RUNS_PER_SIZE = 2  # the faster one counts: the first one pays for new memory and kernels
RATE_TOLERANCE = 1.05  # a rate within 5 % of the best one is as good
MAX_SIZES_WITHOUT_GAIN = 2  # in a row; larger sizes are not tried


@dataclass
class BatchLimits:
    """How many units of a bucket a micro-batch takes, for all calls of a replica.

    units: Greatest number of units. nbytes: Greatest size of their arrays. tuner: Finds the size; without it, it is the
    greatest one. fitting: By bucket, the size that is left after a larger one did not fit on the device.
    """

    units: int
    nbytes: int | None = None
    tuner: BatchSizeTuner | None = None
    fitting: dict[Hashable, int] = field(default_factory=dict)

    def most(self, bucket: Hashable, unit_bytes: int) -> int:
        """Return the greatest number of units of that size, at least 1."""
        most = self.units if self.nbytes is None else max(1, min(self.units, self.nbytes // max(1, unit_bytes)))
        return min(most, self.fitting.get(bucket, most))

    def next_size(self, bucket: Hashable, most: int) -> int:
        """Return the number of units of the next micro-batch, from 1 to `most`."""
        return most if self.tuner is None else self.tuner.next(bucket, most)

    def record(self, bucket: Hashable, size: int, seconds: float) -> None:
        """Record how long a micro-batch took."""
        if self.tuner is not None:
            self.tuner.note(bucket, size, seconds)

    def reduce(self, bucket: Hashable, size: int) -> None:
        """Take at most `size` units of a bucket from now on."""
        self.fitting[bucket] = min(size, self.fitting.get(bucket, size))


class BatchSizeTuner:
    """Tries the sizes 1, 2, 4, … for the units of each bucket, and then keeps the smallest one within 5 % of the best
    rate: a larger one only takes more memory and waits longer for its units. Used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[Hashable, dict[int, list[float]]] = defaultdict(dict)

    def next(self, bucket: Hashable, most: int) -> int:
        """Return the size to try or, after the search, the best one; at most `most`, which is tried too."""
        with self._lock:
            found = self._seconds[bucket]
            rates: list[tuple[int, float]] = []
            for size in _ladder(most):
                seconds = found.get(size, [])
                if len(seconds) < RUNS_PER_SIZE:
                    return size
                rates.append((size, size / min(seconds)))
                if _is_flat([rate for _, rate in rates]):
                    break
            best = max(rate for _, rate in rates)
            return next(size for size, rate in rates if rate * RATE_TOLERANCE >= best)

    def note(self, bucket: Hashable, size: int, seconds: float) -> None:
        """Record how long a micro-batch of that size took."""
        with self._lock:
            seen = self._seconds[bucket].setdefault(size, [])
            if len(seen) < RUNS_PER_SIZE:
                seen.append(seconds)


def _ladder(most: int) -> list[int]:
    """Return 1, 2, 4, … and `most`."""
    return [*(1 << power for power in range(max(0, most - 1).bit_length())), most]


def _is_flat(rates: list[float]) -> bool:
    """Return whether none of the last sizes is faster than an earlier one."""
    last = MAX_SIZES_WITHOUT_GAIN
    return len(rates) > last and max(rates[-last:]) < RATE_TOLERANCE * max(rates[:-last])
