"""A hook that is called while a thread waits for storage, so that a time limit can leave out that time."""

from collections.abc import Callable
from contextvars import ContextVar

wait_hook: ContextVar[Callable[[bool], None]] = ContextVar("wait_hook", default=lambda waiting: None)  # noqa: ARG005
"""Called in the thread that set it: with True at the start of each wait for storage, with False at its end.

Waits may be nested.
"""
