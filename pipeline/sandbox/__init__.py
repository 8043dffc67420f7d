"""Run work in a child process, so that a hang, a crash or a lack of memory there becomes an error for the caller.

This contains what a file does to its decoder. It is not a security boundary: the child may do what its parent may.
"""

from pipeline.sandbox.errors import Crashed, Died, NotStarted, TimedOut
from pipeline.sandbox.item_runner import Failed, SharedSandbox, Started, run_items
from pipeline.sandbox.resource_limits import ResourceLimits, is_memory_shortage, near_memory_limit
from pipeline.sandbox.sandbox import Sandbox

__all__ = [
    "Crashed",
    "Died",
    "Failed",
    "NotStarted",
    "ResourceLimits",
    "Sandbox",
    "SharedSandbox",
    "Started",
    "TimedOut",
    "is_memory_shortage",
    "near_memory_limit",
    "run_items",
]
