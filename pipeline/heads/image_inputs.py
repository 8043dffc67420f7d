"""Images as inputs: cropped and resized on the CPU, rescaled and normalised on the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from pipeline.heads.head import JSON, InputTransform, Model, Tensor, as_tensor
from pipeline.heads.image_config import read_image_settings
from pipeline.heads.image_transform import ImageTransform
from pipeline.media import MediumKind


@dataclass(frozen=True, kw_only=True)
class ImageInputs(InputTransform):
    """Images for the three image models."""

    medium: ClassVar[MediumKind] = "image"
    bytes_per_medium_byte: ClassVar[float] = 0.0
    image_transform: ImageTransform

    @classmethod
    def from_folder(cls, folder: Path, **fields: Any) -> Self:
        """Read the image settings of a checkpoint in a local folder. Raise CheckpointError if they are invalid.

        fields: those of a subclass.
        """
        return cls(image_transform=read_image_settings(folder), **fields)

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

    def collate(self, arrays: dict[str, list[np.ndarray]]) -> Tensor | None:
        """Return pixels uint8 [B, 3, H, W], a quarter of the bytes of float32; None for units with stored latents."""
        return as_tensor(np.stack(arrays["image"])) if "image" in arrays else None

    def encode(self, model: Model, inputs: Tensor) -> Tensor:
        """Return latents [B, N, D] of pixels uint8 [B, 3, H, W], rescaled and normalised."""
        return model.encode(self.image_transform.normalise(inputs, model.dtype))
