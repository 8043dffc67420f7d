"""Values that depend on weights and shapes alone, kept between calls."""

from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from torch import Tensor

# Larger than the positions of an optical-flow tile (188 MB), smaller than the queries of a video clip (1.6 GB).
MAX_BYTES = 256 << 20


class Sized(Protocol):
    """What says how large it is."""

    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)


class Constant(Generic[T]):
    """The last value asked for, where it is at most `max_bytes`; recomputed for another key.

    Models are for inference: weights do not change behind it. Moving a model changes the key. Threads that ask for the
    first time together each compute it.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._kept: tuple[Hashable, T] | None = None

    def get(self, like: Tensor, key: Hashable, compute: Callable[[], T]) -> T:
        """`compute()` for `key` on the device and in the dtype of `like`, or what it gave last time."""
        key = (key, like.device, like.dtype)
        kept = self._kept
        if kept is not None and kept[0] == key:
            return kept[1]
        value = compute()
        # Of a view all of what it holds alive.
        size = value.untyped_storage().nbytes() if isinstance(value, Tensor) else value.nbytes
        if size <= self.max_bytes:
            self._kept = (key, value)
        return value
