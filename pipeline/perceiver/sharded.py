"""One model on several devices: a unit's inputs and output queries are split between them.

Each device gathers from its share of the inputs; the parts of the softmax are merged by their greatest scores and the
sums of their exponentials, so that the latents are those of one device up to rounding. The self-attention layers, small
beside that, run on the first one. Output queries do not see each other, so each device decodes a share of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from pipeline.perceiver.model import Inputs, PerceiverIO, Points
from pipeline.perceiver.preprocessors import Share


class ShardedPerceiverIO:
    """`PerceiverIO`'s encode and decode over the devices of several copies of it; everything else is the first's."""

    def __init__(self, models: Sequence[PerceiverIO]) -> None:
        """models: copies of one model, one a device; the first has the latents and gets the outputs."""
        if not models:
            raise ValueError("devices must be at least one")
        self.models = list(models)
        self.first = self.models[0]

    @classmethod
    def from_pretrained(
        cls, ref: str, *, devices: Sequence[str | torch.device], dtype: torch.dtype = torch.float32, fold: bool = True
    ) -> Self:
        """As `PerceiverIO.from_pretrained`, read once for each kind of device: on a CPU all share one copy."""
        loaded: dict[torch.device, PerceiverIO] = {}
        for device in map(torch.device, devices):
            if device not in loaded:
                loaded[device] = PerceiverIO.from_pretrained(ref, device=device, dtype=dtype, fold=fold)
        return cls([loaded[torch.device(device)] for device in devices])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.first, name)

    @torch.inference_mode()
    def encode(self, inputs: Inputs, mask: Tensor | None = None) -> Tensor:
        """Latents [B, N, D] on the first device, as `PerceiverIO.encode`."""
        parts = [model.encode_part(inputs, mask, share) for model, share in self._shares()]
        return self.first.encoder.finish(part.to(self.first.device) for part in parts)

    @torch.inference_mode()
    def decode(self, latents: Tensor, points: Points = None, *, inputs: Inputs | None = None) -> Any:
        """Outputs on the first device, as `PerceiverIO.decode`."""
        asked = self.first.asked(points)
        projected: dict[str, list[Tensor]] = {name: [] for name in asked}
        for model, share in self._shares():
            own = {name: part for name, part in self._some(asked, share).items() if part.shape[-1] or not share.number}
            for name, part in model.project(latents.to(model.device), own, inputs).items() if own else ():
                projected[name].append(part.to(self.first.device))
        return self.first.form({name: torch.cat(parts, dim=1) for name, parts in projected.items()}, asked)

    def _shares(self) -> list[tuple[PerceiverIO, Share]]:
        return [(model, Share(number, len(self.models))) for number, model in enumerate(self.models)]

    def _some(self, asked: Mapping[str, Tensor | None], share: Share) -> dict[str, Tensor]:
        """One device's share of the queries of each output, as flat indices [P] or [B, P] on it."""
        counts, device = self.first.outputs, self.models[share.number].device
        every = {name: torch.arange(counts[name]) if indices is None else indices for name, indices in asked.items()}
        return {name: indices[..., share.of(indices.shape[-1])].to(device) for name, indices in every.items()}
