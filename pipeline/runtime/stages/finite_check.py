"""A model that notes whether what goes through it is finite: heads clamp and round, so their rows no longer tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from pipeline.perceiver import PerceiverIO, ShardedPerceiverIO


class NotFinite(ArithmeticError):  # noqa: N818 - it says what happened, and its name stands in quarantine
    """NaN or infinity came out of a model for some unit of a micro-batch."""


class FiniteCheckedModel:
    """A model as heads use it, for one micro-batch: what goes in and comes out is looked at on the device.

    Nothing waits for the device until `check`. Everything but `encode` and `decode` is the model's own.
    """

    def __init__(self, model: PerceiverIO | ShardedPerceiverIO) -> None:
        self._model = model
        self._names: list[str] = []
        self._ends: list[torch.Tensor] = []  # the least and the greatest value of each, still on the device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, inputs: Any, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Latents [B, N, D], as `PerceiverIO.encode`."""
        self.note("inputs", inputs)
        latents = self._model.encode(inputs, mask)
        self.note("latents", latents)
        return latents

    def decode(self, latents: torch.Tensor, points: Any = None, *, inputs: Any = None) -> Any:
        """Outputs, as `PerceiverIO.decode`."""
        outputs = self._model.decode(latents, points, inputs=inputs)
        self.note("outputs", outputs)
        return outputs

    def note(self, what: str, values: Any) -> None:
        """Look at the floating tensors of a nested structure, whose name an error would give."""
        for tensor in _floating(values):
            self._names.append(what)
            # NaN where any value is. A mask by isfinite() would be written and read again: 20 times slower on a CPU.
            self._ends += torch.aminmax(tensor)

    def check(self) -> None:
        """NotFinite, naming what was the first not to be, once the device is done. Its one wait."""
        if not self._ends:
            return
        finite = torch.stack(self._ends).isfinite().view(-1, 2).all(dim=1).tolist()
        if not all(finite):
            dtype = str(self._model.dtype).removeprefix("torch.")
            raise NotFinite(f"NaN or infinity in the {self._names[finite.index(False)]}, in {dtype}")


def _floating(values: Any) -> Iterator[torch.Tensor]:
    """The tensors of floating point numbers in a nested structure, but for empty ones."""
    if isinstance(values, torch.Tensor):
        if values.is_floating_point() and values.numel():
            yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _floating(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _floating(value)
