"""Pictures as inputs: cropped and resized on the CPU, rescaled and normalised on the device."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipeline.heads.head import JSON
from pipeline.heads.image_transform import ImageTransform
from pipeline.media import MediumKind

if TYPE_CHECKING:  # load tasks transform without torch
    import torch

    from pipeline.perceiver import PerceiverIO


@dataclass(frozen=True, kw_only=True)
class ImageInputs:
    """A picture as the three image models read it."""

    medium: ClassVar[MediumKind] = "image"
    bytes_per_medium_byte: ClassVar[float] = 0.0
    clip_spec: ClassVar[None] = None
    image_transform: ImageTransform

    @property
    def unit_bytes(self) -> int:
        """Bytes of one unit's pixels."""
        return self.image_transform.unit_bytes

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """The transform's options."""
        return {"transform": self.image_transform.fingerprint_options}

    def transform(self, medium: np.ndarray) -> dict[str, np.ndarray]:
        """{"image": uint8 [3, height, width]}, cropped and resized, from an RGB picture uint8 [H, W, 3]."""
        return {"image": self.image_transform.apply(medium)}

    def bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Hashable:
        """Pictures of one size."""
        return shapes.get("image")

    def collate(self, arrays: dict[str, list[np.ndarray]], device: torch.device | str) -> torch.Tensor | None:
        """Pixels uint8 [B, 3, H, W] on the device: bytes cross over, a quarter of what float32 would be. None where
        there are no pictures, but latents of them."""
        import torch

        return torch.from_numpy(np.stack(arrays["image"])).to(device) if "image" in arrays else None

    def encode(self, model: PerceiverIO, inputs: torch.Tensor) -> torch.Tensor:
        """Latents [B, N, D] of pixels uint8 [B, 3, H, W]: rescaled, normalised, encoded."""
        return model.encode(self.image_transform.normalise(inputs, model.dtype))

    def latents_per_unit(self, inputs: torch.Tensor) -> list[int]:
        """One a picture."""
        return [1] * len(inputs)
