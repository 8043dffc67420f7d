"""Work in a process of its own: what hangs there, dies of a signal or takes too much memory costs its caller an error.

It bounds what files do to a decoder by accident or on purpose. It is no sandbox: the child may do what its parent may.
"""

from pipeline.sandbox.errors import Crashed, Died, NotStarted, TimedOut
from pipeline.sandbox.resource_limits import Limits, memory_was_short, short_of_memory
from pipeline.sandbox.sandbox import Child

__all__ = ["Child", "Crashed", "Died", "Limits", "NotStarted", "TimedOut", "memory_was_short", "short_of_memory"]
