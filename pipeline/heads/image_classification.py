"""Image classification: the best label of each image, its score, and the next best. Paper, "ImageNet"."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.heads.head import JSON, ColumnType, Head, HeadOptions
from pipeline.heads.image_inputs import ImageInputs
from pipeline.heads.labels import Labels

if TYPE_CHECKING:  # load tasks transform without torch
    import torch

    from pipeline.perceiver import PerceiverIO


@dataclass(frozen=True, kw_only=True)
class ImageClassification(ImageInputs, Head):
    """The head of the three image models: learned positions, Fourier positions, convolutional preprocessing."""

    task: ClassVar[str] = "image-classification"
    model_classes: ClassVar[tuple[str, ...]] = (
        "PerceiverForImageClassificationLearned",
        "PerceiverForImageClassificationFourier",
        "PerceiverForImageClassificationConvProcessing",
    )
    labels: Labels

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> ImageClassification:
        """Create the head from config.json and preprocessor_config.json, or transformers' defaults without the latter.

        Raise CheckpointError if the checkpoint has another model class or an invalid file, and ValueError for options
        that are not supported.
        """
        from pipeline.heads.checkpoint_json import check_class, read_checkpoint_json

        check_class(folder, cls.task, cls.model_classes)
        options.reject_unsupported(cls.task, "arrays", "points", "frames", "outputs")
        return cls(
            image_transform=ImageInputs.from_folder(folder).image_transform,
            labels=read_checkpoint_json(folder, "config.json", lambda config: Labels.from_config(config, options)),
        )

    @property
    def columns(self) -> dict[str, ColumnType]:
        """The columns of `Labels`."""
        return self.labels.columns

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """The options of the transform and of the output."""
        return {**super().fingerprint_options, **self.labels.fingerprint_options}

    def decode(self, model: PerceiverIO, latents: torch.Tensor, inputs: Any) -> torch.Tensor:  # noqa: ARG002
        """Return logits [B, labels]."""
        return model.decode(latents)

    def rows(self, outputs: torch.Tensor) -> dict[str, list[Any] | np.ndarray]:
        """Return the columns of logits [B, labels]."""
        return self.labels.rows(outputs)
