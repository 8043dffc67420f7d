"""Cache for values that depend on weights and shapes alone."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from torch import Tensor

from pipeline.perceiver.grid_factorization import FactoredGrid

# Larger than the positions of an optical-flow tile (188 MB), smaller than the queries of a video clip (1.6 GB).
MAX_BYTES = 256 << 20


T = TypeVar("T", Tensor, FactoredGrid)


class TensorCache(Generic[T]):
    """Cache of the value computed last, if it is at most `max_bytes`.

    Weights must not change after the first use. Threads that need the same new value at once each compute it.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._entry: tuple[Hashable, T] | None = None

    def get(self, like: Tensor, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the value for `key` on the device and in the dtype of `like`, computed unless it was the last one."""
        key = (key, like.device, like.dtype)
        if (entry := self._entry) and entry[0] == key:
            return entry[1]
        value = compute()
        # A view keeps its whole storage alive.
        size = value.untyped_storage().nbytes() if isinstance(value, Tensor) else value.nbytes
        if size <= self.max_bytes:
            self._entry = (key, value)
        return value
