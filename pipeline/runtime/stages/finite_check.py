"""A model that checks its inputs and outputs for NaN and infinity, which heads may hide by clamping and rounding."""

from typing import Any

import torch

from pipeline.perceiver import PerceiverIO, ShardedPerceiverIO
from pipeline.runtime.stages.device import map_tensors


class NotFinite(ArithmeticError):  # noqa: N818 - recorded in quarantine under this name
    """A micro-batch has NaN or infinity for some unit."""


class FiniteCheckedModel:
    """A model as heads use it, for one micro-batch. Values are examined on the device, without waiting for it.

    Attributes other than `encode` and `decode` are those of the model.
    """

    def __init__(self, model: PerceiverIO | ShardedPerceiverIO) -> None:
        self._model = model
        self._names: list[str] = []
        self._ends: list[torch.Tensor] = []  # least and greatest value of each, on the device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, inputs: Any, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return latents [B, N, D] like `PerceiverIO.encode`."""
        self.note("inputs", inputs)
        latents = self._model.encode(inputs, mask)
        self.note("latents", latents)
        return latents

    def decode(self, latents: torch.Tensor, points: Any = None, *, inputs: Any = None) -> Any:
        """Return outputs like `PerceiverIO.decode`."""
        outputs = self._model.decode(latents, points, inputs=inputs)
        self.note("outputs", outputs)
        return outputs

    def note(self, what: str, values: Any) -> None:
        """Examine the floating-point tensors of a nested structure; an error shows the name `what`."""

        def examine(tensor: torch.Tensor) -> None:
            if tensor.is_floating_point() and tensor.numel():
                self._names.append(what)
                # NaN if any value is. Writing and reading a mask of isfinite() would be 20 times slower on a CPU.
                self._ends += torch.aminmax(tensor)

        map_tensors(examine, values)

    def check(self) -> None:
        """Wait for the device and raise NotFinite, with the name of the first values that are not finite."""
        if not self._ends:
            return
        finite = torch.stack(self._ends).isfinite().view(-1, 2).all(dim=1).tolist()
        if not all(finite):
            dtype = str(self._model.dtype).removeprefix("torch.")
            raise NotFinite(f"NaN or infinity in the {self._names[finite.index(False)]}, in {dtype}")
