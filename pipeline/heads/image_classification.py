"""Image classification: one label, its score and the best few, for each picture. Paper, section 4.6 (ImageNet)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.heads.head import JSON, ColumnType, HeadOptions
from pipeline.heads.image_inputs import ImageInputs
from pipeline.heads.labels import Labels

if TYPE_CHECKING:  # load tasks transform without torch
    import torch

    from pipeline.perceiver import PerceiverIO


@dataclass(frozen=True, kw_only=True)
class ImageClassification(ImageInputs):
    """The head of the three image models: learned positions, Fourier positions, convolutional preprocessing."""

    task: ClassVar[str] = "image-classification"
    model_classes: ClassVar[tuple[str, ...]] = (
        "PerceiverForImageClassificationLearned",
        "PerceiverForImageClassificationFourier",
        "PerceiverForImageClassificationConvProcessing",
    )
    stored_columns: ClassVar[tuple[str, ...]] = ()
    labels: Labels

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> ImageClassification:
        """The head of a checkpoint in a local folder, from its config.json and preprocessor_config.json.

        Without a preprocessor_config.json the transform is transformers' default. CheckpointError where the checkpoint
        is of another class, or one of its files makes no sense.
        """
        from pipeline.heads.checkpoint_json import check_class, read_checkpoint_json
        from pipeline.heads.image_config import read_transform

        check_class(folder, cls.task, cls.model_classes)
        options.reject_unsupported(cls.task, "arrays", "points", "frames", "outputs")
        return cls(
            image_transform=read_checkpoint_json(folder, "preprocessor_config.json", read_transform, default={}),
            labels=read_checkpoint_json(folder, "config.json", lambda config: Labels.from_config(config, options)),
        )

    @property
    def columns(self) -> dict[str, ColumnType]:
        """label_id, label, score, topk, and logits on demand."""
        return self.labels.columns

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """Transform and output options."""
        return {**super().fingerprint_options, **self.labels.fingerprint_options}

    def arrays_from_row(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:  # noqa: ARG002
        """Nothing: logits need no more than latents."""
        return {}

    def decode(self, model: PerceiverIO, latents: torch.Tensor, inputs: Any) -> torch.Tensor:  # noqa: ARG002
        """Logits [B, labels]."""
        return model.decode(latents)

    def rows(self, outputs: torch.Tensor) -> dict[str, list[Any] | np.ndarray]:
        """The columns of logits [B, labels]."""
        return self.labels.rows(outputs)
