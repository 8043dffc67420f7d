"""Packed shards as `load` returns them, references to models, and heads that record how they are called."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.checkpoints import digest
from pipeline.runtime.records.quarantine import quarantine_record, quarantine_table
from pipeline.runtime.stages.model_runner import ModelRef
from pipeline.runtime.stages.shard_format import pack, pack_arrays


def model_ref(checkpoint: Path, **changes: Any) -> ModelRef:
    """A checkpoint's model in float32 on one thread of the CPU, unless `changes` say otherwise."""
    values = {"checkpoint": str(checkpoint), "digest": digest(checkpoint), "device": "cpu", "dtype": "float32"}
    return ModelRef(**(values | {"threads": 1} | changes))


def packed(units: Sequence[Mapping[str, np.ndarray]]) -> pa.Table:
    """A shard of units `id0`, `id1` and so on, by the arrays of each; one more was quarantined before it."""
    names = {name: [f"{name}{number}" for number in range(len(units))] for name in ("id", "uri", "version")}
    strings = {name: pa.array(values, pa.large_string()) for name, values in names.items()}
    arrays = pack_arrays({name: [unit[name] for unit in units] for name in units[0]}) if units else {}
    before = quarantine_table([quarantine_record("early", "uri", "load", ValueError("cut"))])
    scalars = {"shard": 7, "segment": 2, "plan": "f", "fatal": "", "seconds_load": 0.5}
    return pack(pa.table(strings | arrays), before, scalars)


def images(sides: Iterable[int]) -> list[np.ndarray]:
    """Square images uint8 [3, side, side] of random colors; image i starts with byte i."""
    colors = np.random.default_rng(0)
    made = [colors.integers(0, 256, (3, side, side), np.uint8) for side in sides]
    for number, image in enumerate(made):
        image.flat[0] = number
    return made


class Watched:
    """The real head, which records its micro-batches; units whose first byte is in `bad` cannot be predicted."""

    def __init__(self, head, bad=(), wait=0.0):
        self.head, self.bad, self.wait, self.batches = head, set(bad), wait, []
        self.columns = head.columns

    def bucket(self, shapes):
        return self.head.bucket(shapes)

    def collate(self, arrays):
        self.batches.append([int(image.flat[0]) for image in arrays["image"]])
        return self.head.collate(arrays)

    def encode(self, model, inputs):
        if bad := self.bad & {int(image.flatten()[0]) for image in inputs}:
            raise RuntimeError(f"cannot predict {bad}")
        time.sleep(self.wait)
        return self.head.encode(model, inputs)

    def latents_per_unit(self, inputs):
        return self.head.latents_per_unit(inputs)

    def decode(self, model, latents, inputs):
        return self.head.decode(model, latents, inputs)

    def rows(self, outputs):
        return self.head.rows(outputs)
