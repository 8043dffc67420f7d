"""Arrays that are model inputs already: for the bare model, which has no preprocessor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from pipeline.checkpoints import read_config
from pipeline.heads.head import InputTransform, Model, Tensor, as_tensor
from pipeline.media import MediumKind


@dataclass(frozen=True, kw_only=True)
class ArrayInputs(InputTransform):
    """Inputs [M, channels] of any length M. `channels` is d_model of the checkpoint."""

    medium: ClassVar[MediumKind] = "array"
    channels: int

    @classmethod
    def from_folder(cls, folder: Path, **fields: Any) -> Self:
        """Read the config of a checkpoint in a local folder. Raise CheckpointError if config.json is invalid.

        fields: those of a subclass.
        """
        return cls(channels=read_config(folder).d_model, **fields)

    @property
    def unit_bytes(self) -> int:
        """Bytes of a unit of 1024 inputs: an estimate before a file is opened."""
        return 4 * 1024 * self.channels

    def transform(self, medium: np.ndarray) -> dict[str, np.ndarray]:
        """Return {"inputs": float32 [M, channels]}. Raise ValueError for an array of another shape."""
        if medium.ndim != 2 or medium.shape[1] != self.channels or not len(medium):
            shape = list(medium.shape)
            raise ValueError(f"the array has the shape {shape}, but [M, d_model ({self.channels})] is required")
        return {"inputs": np.ascontiguousarray(medium, np.float32)}

    def collate(self, arrays: dict[str, list[np.ndarray]]) -> Tensor:
        """Return inputs float32 [B, M, channels]."""
        return as_tensor(np.stack(arrays["inputs"]))

    def encode(self, model: Model, inputs: Tensor) -> Tensor:
        """Return latents [B, N, D]."""
        return model.encode(inputs)
