"""Image classification: one label, its score and the best few, for each picture. Paper, section 4.6 (ImageNet)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.heads.base import JSON, ColumnType, HeadOptions
from pipeline.heads.image_transform import ImageTransform
from pipeline.heads.labels import Labels

if TYPE_CHECKING:  # load tasks transform without torch
    import torch

    from pipeline.perceiver import PerceiverIO


@dataclass(frozen=True, kw_only=True)
class ImageClassification:
    """The head of the three image models: learned positions, Fourier positions, convolutional preprocessing."""

    task: ClassVar[str] = "image-classification"
    source: ClassVar[str] = "images"
    model_classes: ClassVar[tuple[str, ...]] = (
        "PerceiverForImageClassificationLearned",
        "PerceiverForImageClassificationFourier",
        "PerceiverForImageClassificationConvProcessing",
    )
    picture: ImageTransform
    labels: Labels

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> ImageClassification:
        """The head of a checkpoint in a local folder, from its config.json and preprocessor_config.json.

        Without a preprocessor_config.json the transform is transformers' default. CheckpointError where the checkpoint
        is of another class, or one of its files makes no sense.
        """
        from pipeline.heads.checkpoint import check_class, read_part
        from pipeline.heads.image_config import read_transform

        check_class(folder, cls.task, cls.model_classes)
        return cls(
            picture=read_part(folder, "preprocessor_config.json", read_transform, default={}),
            labels=read_part(folder, "config.json", lambda config: Labels.from_config(config, options)),
        )

    @property
    def unit_bytes(self) -> int:
        """Bytes of one unit's pixels, which outweigh its labels."""
        return self.picture.unit_bytes

    @property
    def columns(self) -> dict[str, ColumnType]:
        """label_id, label, score, topk, and logits on demand."""
        return self.labels.columns

    @property
    def options(self) -> dict[str, JSON]:
        """Transform and output options."""
        return {"transform": self.picture.options, **self.labels.options}

    def transform(self, medium: np.ndarray) -> dict[str, np.ndarray]:
        """{"image": uint8 [3, height, width]}, cropped and resized, from an RGB picture uint8 [H, W, 3]."""
        return {"image": self.picture.apply(medium)}

    def bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Hashable:
        """Pictures of one size."""
        return shapes["image"]

    def collate(self, arrays: dict[str, list[np.ndarray]], device: torch.device | str) -> torch.Tensor:
        """Pixels uint8 [B, 3, H, W] on the device: bytes cross over, a quarter of what float32 would be."""
        import torch

        return torch.from_numpy(np.stack(arrays["image"])).to(device)

    def forward(self, model: PerceiverIO, inputs: torch.Tensor) -> torch.Tensor:
        """Logits [B, labels] from pixels uint8 [B, 3, H, W]: rescaled, normalised, encoded, decoded."""
        return model.decode(model.encode(self.picture.normalise(inputs, model.dtype)))

    def rows(self, outputs: torch.Tensor) -> dict[str, list[Any] | np.ndarray]:
        """The columns of logits [B, labels]."""
        return self.labels.rows(outputs)
