"""Image classification: the best label of each image, its score, and the next best. Paper, "ImageNet"."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from pipeline.checkpoints import parse_json
from pipeline.heads.head import FLOW_OPTIONS, JSON, ColumnType, Head, HeadOptions, Model, Tensor
from pipeline.heads.image_inputs import ImageInputs
from pipeline.heads.labels import Labels


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
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> Self:
        """Create the head from config.json and the image settings, see `read_image_settings`.

        Raise CheckpointError if the checkpoint has an invalid file, and ValueError for options that are not supported.
        """
        options.reject_unsupported(cls.task, "arrays", "points", "frames", "outputs", *FLOW_OPTIONS)
        return cls.from_folder(folder, labels=parse_json(folder, "config.json", Labels.from_config, options))

    @property
    def columns(self) -> dict[str, ColumnType]:
        """The columns of `Labels`."""
        return self.labels.columns

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels of the checkpoint."""
        return self.labels.names

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """The options of the transform and of the output."""
        return {**super().fingerprint_options, **self.labels.fingerprint_options}

    def decode(self, model: Model, latents: Tensor, inputs: Any) -> Tensor:  # noqa: ARG002
        """Return logits [B, labels]."""
        return model.decode(latents)

    def rows(self, outputs: Tensor) -> dict[str, list[Any] | np.ndarray]:
        """Return the columns of logits [B, labels]."""
        return self.labels.rows(outputs)
