"""Feature extraction: the latents of any checkpoint, as their mean or whole. Paper, section 3.1."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.heads.array_inputs import ArrayInputs
from pipeline.heads.clip_inputs import ClipInputs
from pipeline.heads.flow_inputs import FlowInputs
from pipeline.heads.head import JSON, ColumnType, HeadOptions, InputTransform
from pipeline.heads.image_inputs import ImageInputs
from pipeline.heads.latent_columns import latents_from_row
from pipeline.heads.text_inputs import TextInputs, read_tokenizer
from pipeline.media import ClipSpec, MediumKind

if TYPE_CHECKING:  # load tasks transform without torch
    import torch

    from pipeline.perceiver import PerceiverIO


def _text(folder: Path) -> InputTransform:
    return TextInputs(tokenizer=read_tokenizer(folder))


def _image(folder: Path) -> InputTransform:
    from pipeline.heads.checkpoint_json import read_checkpoint_json
    from pipeline.heads.image_config import read_transform

    return ImageInputs(
        image_transform=read_checkpoint_json(folder, "preprocessor_config.json", read_transform, default={})
    )


def _array(folder: Path) -> InputTransform:
    from pipeline.perceiver.checkpoint_loading import read_config

    return ArrayInputs(channels=read_config(folder).d_model)


_INPUTS: Mapping[str, Callable[[Path], InputTransform]] = {
    "PerceiverModel": _array,
    "PerceiverForMaskedLM": _text,
    "PerceiverForSequenceClassification": _text,
    "PerceiverForImageClassificationLearned": _image,
    "PerceiverForImageClassificationFourier": _image,
    "PerceiverForImageClassificationConvProcessing": _image,
    "PerceiverForOpticalFlow": FlowInputs.from_folder,
    "PerceiverForMultimodalAutoencoding": ClipInputs.from_folder,
}


@dataclass(frozen=True, kw_only=True)
class FeatureExtraction:
    """The encoder alone, whatever the checkpoint decodes: a text (cut where it is longer than the model), a picture, a
    pair of frames, a clip, or, for the bare model, an array. A frame in tiles has the mean of all of its tiles."""

    task: ClassVar[str] = "feature-extraction"
    model_classes: ClassVar[tuple[str, ...]] = tuple(_INPUTS)
    stored_columns: ClassVar[tuple[str, ...]] = ()
    inputs: InputTransform

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> FeatureExtraction:
        """The head of a checkpoint in a local folder, from the files that the task of its class reads.

        CheckpointError where the checkpoint is of no class of Perceiver's, or one of its files makes no sense.
        """
        from pipeline.heads.checkpoint_json import check_class
        from pipeline.perceiver.checkpoint_loading import read_model_class

        check_class(folder, cls.task, cls.model_classes)
        options.reject_unsupported(cls.task, "logits", "arrays", "points", "frames", "outputs")
        return cls(inputs=_INPUTS[read_model_class(folder)](folder))

    @property
    def medium(self) -> MediumKind:
        """What the checkpoint reads."""
        return self.inputs.medium

    @property
    def unit_bytes(self) -> int:
        """Bytes of what goes in: it outweighs an embedding."""
        return self.inputs.unit_bytes

    @property
    def bytes_per_medium_byte(self) -> float:
        """Of what goes in."""
        return self.inputs.bytes_per_medium_byte

    @property
    def clip_spec(self) -> ClipSpec | None:
        """As the checkpoint reads clips."""
        return self.inputs.clip_spec

    @property
    def columns(self) -> dict[str, ColumnType]:
        """embedding: the mean of the latents, [D]."""
        return {"embedding": ["float32"]}

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """The transform's."""
        return self.inputs.fingerprint_options

    def transform(self, medium: Any) -> dict[str, np.ndarray]:
        """As the checkpoint's own task."""
        return self.inputs.transform(medium)

    def arrays_from_row(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """{"count": int32 [1]}: how many latents [N, D] the row has."""
        count = len(latents_from_row(row))
        if not count:
            raise ValueError("the row has no latents: its text had no masks, so nothing was encoded")
        return {"count": np.array([count], np.int32)}

    def bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Hashable:
        """As the checkpoint's own task."""
        return None if "count" in shapes else self.inputs.bucket(shapes)

    def collate(self, arrays: dict[str, list[np.ndarray]], device: torch.device | str) -> dict[str, Any]:
        """{"inputs": of the checkpoint's own task, "counts": how many latents each unit has}."""
        if "count" in arrays:
            return {"inputs": None, "counts": [int(count[0]) for count in arrays["count"]]}
        inputs = self.inputs.collate(arrays, device)
        return {"inputs": inputs, "counts": self.inputs.latents_per_unit(inputs)}

    def encode(self, model: PerceiverIO, inputs: dict[str, Any]) -> torch.Tensor:
        """Latents [T, N, D]."""
        return self.inputs.encode(model, inputs["inputs"])

    def latents_per_unit(self, inputs: dict[str, Any]) -> list[int]:
        """How many of the T belong to each unit."""
        return list(inputs["counts"])

    def decode(self, model: PerceiverIO, latents: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:  # noqa: ARG002
        """Embeddings float32 [B, D]."""
        import torch

        means = latents.float().mean(dim=1)
        return torch.stack([part.mean(dim=0) for part in means.split(inputs["counts"])])

    def rows(self, outputs: torch.Tensor) -> dict[str, Sequence[Any] | np.ndarray]:
        """The columns of a micro-batch."""
        return {"embedding": outputs.cpu().numpy()}
