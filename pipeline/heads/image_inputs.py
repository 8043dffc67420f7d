"""Images as inputs: cropped and resized on the CPU, rescaled and normalised on the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipeline.heads.head import JSON, InputTransform
from pipeline.heads.image_transform import ImageTransform
from pipeline.media import MediumKind

if TYPE_CHECKING:  # load tasks transform without torch
    import torch

    from pipeline.perceiver import PerceiverIO


@dataclass(frozen=True, kw_only=True)
class ImageInputs(InputTransform):
    """Images for the three image models."""

    medium: ClassVar[MediumKind] = "image"
    image_transform: ImageTransform

    @classmethod
    def from_folder(cls, folder: Path) -> ImageInputs:
        """Read preprocessor_config.json in a local folder, or else use transformers' defaults.

        Raise CheckpointError if the file is invalid.
        """
        from pipeline.heads.checkpoint_json import read_checkpoint_json
        from pipeline.heads.image_config import read_transform

        transform = read_checkpoint_json(folder, "preprocessor_config.json", read_transform, default={})
        return ImageInputs(image_transform=transform)

    @property
    def unit_bytes(self) -> int:
        """Bytes of a transformed image."""
        return self.image_transform.unit_bytes

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """The steps of the transform."""
        return {"transform": self.image_transform.fingerprint_options}

    def transform(self, medium: np.ndarray) -> dict[str, np.ndarray]:
        """Return {"image": uint8 [3, height, width]}, cropped and resized, from an RGB image uint8 [H, W, 3]."""
        return {"image": self.image_transform.apply(medium)}

    def collate(self, arrays: dict[str, list[np.ndarray]]) -> torch.Tensor | None:
        """Return pixels uint8 [B, 3, H, W], a quarter of the bytes of float32; None for units with stored latents."""
        import torch

        return torch.from_numpy(np.stack(arrays["image"])) if "image" in arrays else None

    def encode(self, model: PerceiverIO, inputs: torch.Tensor) -> torch.Tensor:
        """Return latents [B, N, D] of pixels uint8 [B, 3, H, W], rescaled and normalised."""
        return model.encode(self.image_transform.normalise(inputs, model.dtype))

    def latents_per_unit(self, inputs: torch.Tensor) -> list[int]:
        """Return 1 per image."""
        return [1] * len(inputs)
