"""Feature extraction: the latents of any checkpoint, as their mean or whole. Paper, section 3.1."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from pipeline.checkpoints import read_model_class
from pipeline.heads.array_inputs import ArrayInputs
from pipeline.heads.clip_inputs import ClipInputs
from pipeline.heads.flow_inputs import FlowInputs
from pipeline.heads.head import FLOW_OPTIONS, ColumnType, Head, HeadOptions, InputTransform, Model, Tensor
from pipeline.heads.image_inputs import ImageInputs
from pipeline.heads.latent_columns import latents_from_row
from pipeline.heads.pooling import pool
from pipeline.heads.text_inputs import TextInputs

_FROM_FOLDER: Mapping[str, Callable[[Path], InputTransform]] = {
    "PerceiverModel": ArrayInputs.from_folder,
    "PerceiverForMaskedLM": TextInputs.from_folder,
    "PerceiverForSequenceClassification": TextInputs.from_folder,
    "PerceiverForImageClassificationLearned": ImageInputs.from_folder,
    "PerceiverForImageClassificationFourier": ImageInputs.from_folder,
    "PerceiverForImageClassificationConvProcessing": ImageInputs.from_folder,
    "PerceiverForOpticalFlow": FlowInputs.from_folder,
    "PerceiverForMultimodalAutoencoding": ClipInputs.from_folder,
}


@dataclass(frozen=True, kw_only=True)
class FeatureExtraction(Head):
    """The encoder alone. `inputs` transforms the medium of the checkpoint's own task; the bare model takes arrays.

    A text longer than the model is truncated. A frame in tiles has the mean of the latents of all tiles.
    """

    task: ClassVar[str] = "feature-extraction"
    model_classes: ClassVar[tuple[str, ...]] = tuple(_FROM_FOLDER)
    decodes: ClassVar[bool] = False
    columns: ClassVar[dict[str, ColumnType]] = {"embedding": ["float32"]}  # the mean of the latents, [D]
    inputs: InputTransform

    # Those of the checkpoint's own task. An input is larger than an embedding.
    medium: ClassVar[Any] = property(attrgetter("inputs.medium"))
    unit_bytes: ClassVar[Any] = property(attrgetter("inputs.unit_bytes"))
    bytes_per_medium_byte: ClassVar[Any] = property(attrgetter("inputs.bytes_per_medium_byte"))
    clip_spec: ClassVar[Any] = property(attrgetter("inputs.clip_spec"))
    fingerprint_options: ClassVar[Any] = property(attrgetter("inputs.fingerprint_options"))

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> Self:
        """Create the head from the files that the task of the checkpoint's model class reads.

        Raise CheckpointError if the checkpoint has an invalid file, and ValueError for options that are not supported.
        """
        options.reject_unsupported(cls.task, "logits", "arrays", "points", "frames", "outputs", *FLOW_OPTIONS)
        return cls(inputs=_FROM_FOLDER[read_model_class(folder)](folder))

    def passes(self, medium_bytes: int | None) -> float:
        """Return the passes of the checkpoint's own task."""
        return self.inputs.passes(medium_bytes)

    def transform(self, medium: Any) -> dict[str, np.ndarray]:
        """Return the arrays of the checkpoint's own task."""
        return self.inputs.transform(medium)

    def arrays_from_row(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return {"count": int32 [1]}, the number of latents [N, D] in the row. Raise ValueError if it has none."""
        count = len(latents_from_row(row))
        if not count:
            raise ValueError("the row has no latents: its text had no masks, so it was not encoded")
        return {"count": np.array([count], np.int32)}

    def bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Hashable:
        """Group units as the checkpoint's own task does; those with stored latents all together."""
        return None if "count" in shapes else self.inputs.bucket(shapes)

    def collate(self, arrays: dict[str, list[np.ndarray]]) -> dict[str, Any]:
        """Return {"inputs": those of the checkpoint's own task, "counts": number of latents of each unit}."""
        if "count" in arrays:
            return {"inputs": None, "counts": [int(count[0]) for count in arrays["count"]]}
        inputs = self.inputs.collate(arrays)
        return {"inputs": inputs, "counts": self.inputs.latents_per_unit(inputs)}

    def encode(self, model: Model, inputs: dict[str, Any]) -> Tensor:
        """Return latents [T, N, D]."""
        return self.inputs.encode(model, inputs["inputs"])

    def latents_per_unit(self, inputs: dict[str, Any]) -> list[int]:
        """Return how many of the T latents belong to each unit."""
        return list(inputs["counts"])

    def decode(self, model: Model, latents: Tensor, inputs: dict[str, Any]) -> Any:  # noqa: ARG002
        """Return embeddings float32 [B, D]."""
        return pool(latents, inputs["counts"], "mean")

    def rows(self, outputs: Any) -> dict[str, Sequence[Any] | np.ndarray]:
        """Return the columns of a micro-batch."""
        return {"embedding": outputs.cpu().numpy()}
