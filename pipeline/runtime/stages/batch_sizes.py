"""Batch sizes learned while predicting: what fits on the device, and what is fast. Nothing is computed for it alone."""

import threading
from collections import defaultdict
from collections.abc import Hashable

RUNS_PER_SIZE = 2  # the faster one counts: the first one pays for new memory and kernels
RATE_TOLERANCE = 1.05  # a rate within 5 % of the best one is as good
MAX_SIZES_WITHOUT_GAIN = 2  # in a row; larger sizes are not tried


class BatchSizes:
    """How many units of a bucket a micro-batch takes, for all calls of a replica, which may run in several threads.

    If `tuned`, the sizes 1, 2, 4, … are tried for the units of each bucket, and then the smallest one within 5 % of the
    best rate is kept: a larger one only takes more memory and waits longer for its units.
    """

    def __init__(self, units: int, nbytes: int | None = None, *, tuned: bool = False) -> None:
        """Take the greatest number of units and the greatest size of their arrays in bytes, None for no limit."""
        self.units, self.nbytes, self.tuned = units, nbytes, tuned
        self._fitting: dict[Hashable, int] = {}  # by bucket, the size that is left after a larger one did not fit
        self._lock = threading.Lock()
        self._seconds: dict[Hashable, dict[int, list[float]]] = defaultdict(dict)

    def most(self, bucket: Hashable, unit_bytes: int) -> int:
        """Return the greatest number of units of that size, at least 1."""
        most = self.units if self.nbytes is None else max(1, min(self.units, self.nbytes // max(1, unit_bytes)))
        return min(most, self._fitting.get(bucket, most))

    def reduce(self, bucket: Hashable, size: int) -> None:
        """Take at most `size` units of a bucket from now on."""
        self._fitting[bucket] = min(size, self._fitting.get(bucket, size))

    def next(self, bucket: Hashable, most: int) -> int:
        """Return the size to try or, after the search, the best one; at most `most`, which is tried too."""
        if not self.tuned:
            return most
        with self._lock:
            found = self._seconds[bucket]
            rates: dict[int, float] = {}
            for size in _ladder(most):
                seconds = found.get(size, [])
                if len(seconds) < RUNS_PER_SIZE:
                    return size
                rates[size] = size / min(seconds)
                if _is_flat(list(rates.values())):
                    break
            return next(size for size, rate in rates.items() if rate * RATE_TOLERANCE >= max(rates.values()))

    def record(self, bucket: Hashable, size: int, seconds: float) -> None:
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
