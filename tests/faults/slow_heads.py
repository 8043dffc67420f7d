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
        self.columns, self.fingerprint_options, self.unit_bytes = (
            head.columns,
            head.fingerprint_options,
            head.unit_bytes,
        )
        self.task, self.transform, self.collate, self.rows = head.task, head.transform, head.collate, head.rows
        self.bucket, self.latents_per_unit, self.decode = head.bucket, head.latents_per_unit, head.decode
        self.decodes = head.decodes
        self.medium, self.bytes_per_medium_byte, self.clip_spec, self.stored_columns = (
            head.medium,
            head.bytes_per_medium_byte,
            head.clip_spec,
            head.stored_columns,
        )

    def encode(self, model, inputs):
        time.sleep(0.1)
        return self.head.encode(model, inputs)
