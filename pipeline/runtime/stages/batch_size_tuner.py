"""How many units go to the device at once, found while they are predicted: nothing is computed to find it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Hashable

RUNS_PER_SIZE = 2  # of each size, the better of which counts: the first one pays for memory and kernels that are new
RATE_TOLERANCE = 1.05  # a rate within 5 % of the best one is as good
MAX_SIZES_WITHOUT_GAIN = 2  # sizes one after the other without a better rate: larger ones are not tried


class BatchSizeTuner:
    """The sizes 1, 2, 4 … that were tried for units of each bucket, with their rates; for several calls at once.

    The smallest size within 5 % of the best rate is used from then on: a larger one only takes more memory, and waits
    longer for its units.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[Hashable, dict[int, list[float]]] = defaultdict(dict)

    def next(self, bucket: Hashable, most: int) -> int:
        """The size to try or, when that is over, the one that was found; at most `most`, which need not be a power of
        two."""
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
        """A micro-batch of that size was predicted in so many seconds."""
        with self._lock:
            seen = self._seconds[bucket].setdefault(size, [])
            if len(seen) < RUNS_PER_SIZE:
                seen.append(seconds)


def _ladder(most: int) -> list[int]:
    """1, 2, 4 … and `most`."""
    return [*(1 << power for power in range(max(0, most - 1).bit_length())), most]


def _is_flat(rates: list[float]) -> bool:
    """Whether none of the last sizes is faster than one before them."""
    return len(rates) > MAX_SIZES_WITHOUT_GAIN and max(rates[-MAX_SIZES_WITHOUT_GAIN:]) < RATE_TOLERANCE * max(
        rates[:-MAX_SIZES_WITHOUT_GAIN]
    )
