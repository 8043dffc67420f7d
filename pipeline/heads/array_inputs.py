"""Arrays that are model inputs already: for the bare model, which has no preprocessor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipeline.heads.head import JSON, InputTransform
from pipeline.media import MediumKind

if TYPE_CHECKING:  # load tasks check shapes without torch
    import torch

    from pipeline.perceiver import PerceiverIO

_ASSUMED_LENGTH = 1024  # inputs per unit; used to estimate bytes before a file is opened


@dataclass(frozen=True, kw_only=True)
class ArrayInputs(InputTransform):
    """Inputs [M, channels] of any length M. `channels` is d_model of the checkpoint."""

    medium: ClassVar[MediumKind] = "array"
    bytes_per_medium_byte: ClassVar[float] = 1.0
    channels: int

    @classmethod
    def from_folder(cls, folder: Path) -> ArrayInputs:
        """Read the config of a checkpoint in a local folder. Raise CheckpointError if config.json is invalid."""
        from pipeline.perceiver.checkpoint_loading import read_config

        return ArrayInputs(channels=read_config(folder).d_model)

    @property
    def unit_bytes(self) -> int:
        """Bytes of a unit of the assumed length."""
        return 4 * _ASSUMED_LENGTH * self.channels

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """Nothing: an array is used unchanged."""
        return {}

    def transform(self, medium: np.ndarray) -> dict[str, np.ndarray]:
        """Return {"inputs": float32 [M, channels]}. Raise ValueError for an array of another shape."""
        if medium.ndim != 2 or medium.shape[1] != self.channels or not len(medium):
            raise ValueError(
                f"the array has the shape {list(medium.shape)}, but [M, d_model ({self.channels})] is required"
            )
        return {"inputs": np.ascontiguousarray(medium, np.float32)}

    def collate(self, arrays: dict[str, list[np.ndarray]]) -> torch.Tensor:
        """Return inputs float32 [B, M, channels]."""
        import torch

        return torch.from_numpy(np.stack(arrays["inputs"]))

    def encode(self, model: PerceiverIO, inputs: torch.Tensor) -> torch.Tensor:
        """Return latents [B, N, D]."""
        return model.encode(inputs)

    def latents_per_unit(self, inputs: torch.Tensor) -> list[int]:
        """Return 1 per array."""
        return [1] * len(inputs)
