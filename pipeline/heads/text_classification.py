"""Text classification: the best label of each text, its score, and the next best. Paper, "Language" (GLUE)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from pipeline.checkpoints import parse_json
from pipeline.heads.head import FLOW_OPTIONS, JSON, ColumnType, Head, HeadOptions, Model, Tensor
from pipeline.heads.labels import Labels
from pipeline.heads.text_inputs import TextInputs


@dataclass(frozen=True, kw_only=True)
class TextClassification(TextInputs, Head):
    """The head of a fine-tuned text model. A text longer than the model is truncated, and its row says so."""

    task: ClassVar[str] = "text-classification"
    model_classes: ClassVar[tuple[str, ...]] = ("PerceiverForSequenceClassification",)
    stored_columns: ClassVar[tuple[str, ...]] = ("truncated", "replaced")
    labels: Labels

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> Self:
        """Create the head from config.json and tokenizer_config.json, or transformers' defaults without the latter.

        Raise CheckpointError if the checkpoint has an invalid file, and ValueError for options that are not supported.
        """
        options.reject_unsupported(cls.task, "arrays", "points", "frames", "outputs", *FLOW_OPTIONS)
        return cls.from_folder(folder, labels=parse_json(folder, "config.json", Labels.from_config, options))

    @property
    def columns(self) -> dict[str, ColumnType]:
        """The columns of `Labels`; truncated: the end was not read; replaced: the text was not valid Unicode."""
        return {**self.labels.columns, "truncated": "bool", "replaced": "bool"}

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels of the checkpoint."""
        return self.labels.names

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """The options of the transform and of the output."""
        return {**super().fingerprint_options, **self.labels.fingerprint_options}

    def arrays_from_row(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return {"flags": uint8 [2]}, truncated and replaced."""
        return {"flags": np.array([row["truncated"], row["replaced"]], np.uint8)}

    def decode(self, model: Model, latents: Tensor, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return {"logits": [B, labels], "flags": uint8 [B, 2]}."""
        return {"logits": model.decode(latents), "flags": inputs["flags"]}

    def rows(self, outputs: dict[str, Any]) -> dict[str, list[Any] | np.ndarray]:
        """Return the columns of a micro-batch."""
        flags = outputs["flags"].astype(bool)
        return {**self.labels.rows(outputs["logits"]), "truncated": flags[:, 0], "replaced": flags[:, 1]}
