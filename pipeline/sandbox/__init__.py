"""Work in a process of its own: what hangs there, dies of a signal or takes too much memory costs its caller an error.

It bounds what files do to a decoder by accident or on purpose. It is no sandbox: the child may do what its parent may.
"""

from pipeline.sandbox.errors import Crashed, Died, NotStarted, TimedOut
from pipeline.sandbox.resource_limits import ResourceLimits, is_memory_shortage, memory_ran_short
from pipeline.sandbox.sandbox import Sandbox

__all__ = [
    "Crashed",
    "Died",
    "NotStarted",
    "ResourceLimits",
    "Sandbox",
    "TimedOut",
    "is_memory_shortage",
    "memory_ran_short",
]
