"""Arrays that are inputs already: what the bare model reads, which has no preprocessor."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipeline.heads.head import JSON
from pipeline.media import MediumKind

if TYPE_CHECKING:  # load tasks check shapes without torch
    import torch

    from pipeline.perceiver import PerceiverIO

_PLACES = 1024  # of a unit, for an estimate of its bytes


@dataclass(frozen=True, kw_only=True)
class ArrayInputs:
    """Inputs [M, channels] of any length M."""

    medium: ClassVar[MediumKind] = "array"
    bytes_per_medium_byte: ClassVar[float] = 1.0
    clip_spec: ClassVar[None] = None
    channels: int

    @property
    def unit_bytes(self) -> int:
        """An estimate: the length of a unit is known when it is opened."""
        return 4 * _PLACES * self.channels

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """None: an array is read as it is."""
        return {}

    def transform(self, medium: np.ndarray) -> dict[str, np.ndarray]:
        """{"inputs": float32 [M, channels]} of an array of that width."""
        if medium.ndim != 2 or medium.shape[1] != self.channels or not len(medium):
            raise ValueError(f"an array {list(medium.shape)} must be [M, {self.channels}]: d_model of the checkpoint")
        return {"inputs": np.ascontiguousarray(medium, np.float32)}

    def bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Hashable:
        """Arrays of one length."""
        return shapes.get("inputs")

    def collate(self, arrays: dict[str, list[np.ndarray]], device: torch.device | str) -> torch.Tensor:
        """Inputs float32 [B, M, channels] on the device."""
        import torch

        return torch.from_numpy(np.stack(arrays["inputs"])).to(device)

    def encode(self, model: PerceiverIO, inputs: torch.Tensor) -> torch.Tensor:
        """Latents [B, N, D]."""
        return model.encode(inputs)

    def latents_per_unit(self, inputs: torch.Tensor) -> list[int]:
        """One an array."""
        return [1] * len(inputs)
