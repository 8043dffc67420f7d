"""A slower head, for tests that interfere in the middle of a run."""

from __future__ import annotations

import sys
import time

from ray import cloudpickle

# Workers cannot import this file, so its classes are pickled by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Slow:
    """The real head, delayed by 0.1 s per micro-batch."""

    def __init__(self, head):
        self.head = head

    def __getattr__(self, name):
        if name == "head":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.head, name)

    def encode(self, model, inputs):
        time.sleep(0.1)
        return self.head.encode(model, inputs)
