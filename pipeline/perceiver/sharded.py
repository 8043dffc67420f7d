"""One model on several devices: the inputs and output queries of a unit are split between them.

Each device attends to its share of the inputs. The partial attentions are merged by their greatest scores and the sums
of their exponentials, so that the latents equal those of one device up to rounding. The self-attention layers, which
take little time compared with that, run on the first device. Output queries are independent: each device decodes a
share of them.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from pipeline.perceiver.batching import concat, even_slices
from pipeline.perceiver.model import ModelInputs, PerceiverIO, Points


class ShardedPerceiverIO:
    """`PerceiverIO`'s encode and decode on several devices; other attributes are those of the first device's model."""

    def __init__(self, models: Sequence[PerceiverIO]) -> None:
        """Use copies of one model, one per device; latents and outputs are on the device of the first."""
        if not models:
            raise ValueError("at least one device is required, got none")
        self.models = list(models)
        self.first = self.models[0]

    @classmethod
    def from_pretrained(
        cls, ref: str, *, devices: Sequence[str | torch.device], dtype: torch.dtype = torch.float32, fold: bool = True
    ) -> Self:
        """Load a checkpoint once for each distinct device, see `PerceiverIO.from_pretrained`."""
        loaded: dict[torch.device, PerceiverIO] = {}
        for device in map(torch.device, devices):
            if device not in loaded:
                loaded[device] = PerceiverIO.from_pretrained(ref, device=device, dtype=dtype, fold=fold)
        return cls([loaded[torch.device(device)] for device in devices])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.first, name)

    @torch.inference_mode()
    def encode(self, inputs: ModelInputs, mask: Tensor | None = None) -> Tensor:
        """Return latents [B, N, D] on the first device, see `PerceiverIO.encode`."""
        shards = [model.encode_shard(inputs, mask, i, len(self.models)) for i, model in enumerate(self.models)]
        return self.first.encoder.finish(shard.to(self.first.device) for shard in shards)

    @torch.inference_mode()
    def decode(self, latents: Tensor, points: Points = None, *, inputs: ModelInputs | None = None) -> Any:
        """Return outputs on the first device, see `PerceiverIO.decode`."""
        checked, counts = self.first.check_points(points), self.first.outputs
        indices = {name: torch.arange(counts[name]) if some is None else some for name, some in checked.items()}
        decoded: dict[str, list[Tensor]] = {name: [] for name in indices}
        for i, model in enumerate(self.models):
            shares = {name: x[..., even_slices(x.shape[-1], len(self.models))[i]] for name, x in indices.items()}
            # The first device decodes empty shares too, so that every output has a tensor.
            shares = {name: x.to(model.device) for name, x in shares.items() if x.shape[-1] or i == 0}
            for name, part in model.decode_queries(latents.to(model.device), shares, inputs).items():
                decoded[name].append(part.to(self.first.device))
        return self.first.assemble({name: concat(parts, dim=1) for name, parts in decoded.items()}, checked)
