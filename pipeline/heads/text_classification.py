"""Text classification: one label, its score and the best few, for each text. Paper, section 4.1 (GLUE)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.heads.base import JSON, ColumnType, HeadOptions
from pipeline.heads.labels import Labels
from pipeline.heads.text_inputs import length_bucket, pad, read_tokenizer
from pipeline.heads.tokenizer import Tokenizer

if TYPE_CHECKING:  # load tasks transform without torch
    import torch

    from pipeline.perceiver import PerceiverIO


@dataclass(frozen=True, kw_only=True)
class TextClassification:
    """The head of a fine-tuned text model. A text longer than the model is cut, and its row says so."""

    task: ClassVar[str] = "text-classification"
    source: ClassVar[str] = "text"
    model_classes: ClassVar[tuple[str, ...]] = ("PerceiverForSequenceClassification",)
    tokenizer: Tokenizer
    labels: Labels

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> TextClassification:
        """The head of a checkpoint in a local folder, from its config.json and tokenizer_config.json.

        Without a tokenizer_config.json the tokenizer is transformers' default. CheckpointError where the checkpoint is
        of another class, or one of its files makes no sense.
        """
        from pipeline.heads.checkpoint import check_class, read_part

        check_class(folder, cls.task, cls.model_classes)
        return cls(
            tokenizer=read_tokenizer(folder),
            labels=read_part(folder, "config.json", lambda config: Labels.from_config(config, options)),
        )

    @property
    def unit_bytes(self) -> int:
        """Bytes of the ids of the longest text."""
        return 2 * self.tokenizer.max_length

    @property
    def columns(self) -> dict[str, ColumnType]:
        """Those of every classification; truncated: the end was not read; replaced: it was not valid Unicode."""
        return {**self.labels.columns, "truncated": "bool", "replaced": "bool"}

    @property
    def options(self) -> dict[str, JSON]:
        """Transform and output options."""
        return {"transform": self.tokenizer.options, **self.labels.options}

    def transform(self, medium: str | bytes) -> dict[str, np.ndarray]:
        """{"ids": int16 [tokens], "flags": uint8 [2]}, truncated and replaced, from a text."""
        encoded = self.tokenizer.encode(medium)
        return {"ids": encoded.ids, "flags": np.array([encoded.truncated, encoded.replaced], np.uint8)}

    def bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Hashable:
        """Texts of about one length."""
        return length_bucket(shapes["ids"][0])

    def collate(self, arrays: dict[str, list[np.ndarray]], device: torch.device | str) -> dict[str, Any]:
        """{"ids": int64 [B, L], "mask": bool [B, L] or None, "flags": uint8 [B, 2]}; the flags stay on the CPU."""
        ids, mask = pad(arrays["ids"], self.tokenizer.max_length)
        mask = None if mask is None else mask.to(device)
        return {"ids": ids.to(device), "mask": mask, "flags": np.stack(arrays["flags"])}

    def forward(self, model: PerceiverIO, inputs: dict[str, Any]) -> dict[str, Any]:
        """{"logits": [B, labels], "flags": uint8 [B, 2]}."""
        return {"logits": model(inputs["ids"], inputs["mask"]), "flags": inputs["flags"]}

    def rows(self, outputs: dict[str, Any]) -> dict[str, list[Any] | np.ndarray]:
        """The columns of a micro-batch."""
        flags = outputs["flags"].astype(bool)
        return {**self.labels.rows(outputs["logits"]), "truncated": flags[:, 0], "replaced": flags[:, 1]}
