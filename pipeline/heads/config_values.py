"""Checks of values in a checkpoint's JSON files."""

from typing import Any


def is_positive_int(value: Any) -> bool:
    """Whether a value is an integer of at least 1; a bool is not."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def positive_int(name: str, value: Any) -> int:
    """Return a value that is an integer of at least 1, or raise ValueError."""
    if not is_positive_int(value):
        raise ValueError(f"{name} ({value!r}) must be an integer of at least 1")
    return int(value)
