"""Classification with a linear probe: labels that the checkpoint itself does not know, in the same pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from pipeline.checkpoints import CheckpointError
from pipeline.heads.feature_extraction import FeatureExtraction
from pipeline.heads.head import JSON, ColumnType, HeadOptions, Model, Tensor
from pipeline.heads.labels import Labels
from pipeline.heads.pooling import pool
from pipeline.heads.probe import Probe
from pipeline.media import MediumKind

PROBED_MEDIA: Mapping[str, MediumKind | None] = {
    "image-classification": "image",
    "text-classification": "text",
    "feature-extraction": None,
}
"""The tasks that a probe can predict, and the medium that their checkpoint reads; None for any."""

_TEXT_FLAGS: dict[str, ColumnType] = {"truncated": "bool", "replaced": "bool"}


@dataclass(frozen=True, kw_only=True)
class Probed(FeatureExtraction):
    """The encoder of any checkpoint, and a probe in the place of its decoder."""

    task_name: str
    probe: Probe
    labels: Labels

    task: ClassVar[Any] = property(attrgetter("task_name"))

    @classmethod
    def of_task(cls, task: str, folder: Path, options: HeadOptions) -> Self:
        """Create the head. Raise CheckpointError if the checkpoint or the probe is wrong, ValueError for an option."""
        probe = options.probe
        assert probe is not None
        unscored = replace(options, top_k=HeadOptions.top_k, logits=False, probe=None)
        inputs = FeatureExtraction.from_checkpoint(folder, unscored).inputs
        if (medium := PROBED_MEDIA[task]) not in (None, inputs.medium):
            found = inputs.medium.replace("_", " ")
            raise CheckpointError(f"checkpoint {folder} reads {found}s; {task} with a probe needs one for {medium}s")
        labels = Labels(
            names=probe.labels,
            scoring="softmax",
            top_k=min(options.top_k, len(probe.labels)),
            logits=options.logits,
        )
        return cls(inputs=inputs, task_name=task, probe=probe, labels=labels)

    @property
    def columns(self) -> dict[str, ColumnType]:  # type: ignore[override]
        """Those of `Labels` for the labels of the probe, and what else the task has."""
        features = FeatureExtraction.columns if self._has_features else {}
        return {**features, **self.labels.columns, **(_TEXT_FLAGS if self._has_flags else {})}

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels of the probe."""
        return self.labels.names

    @property
    def stored_columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """Columns of stored rows that a text needs."""
        return tuple(_TEXT_FLAGS) if self._has_flags else ()

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """The options of the transform and of the output, and the digest of the probe."""
        return {**self.inputs.fingerprint_options, **self.labels.fingerprint_options, "probe": self.probe.digest}

    def arrays_from_row(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return {"count": int32 [1]}, and of a text {"flags": uint8 [2]}, truncated and replaced."""
        arrays = super().arrays_from_row(row)
        if self._has_flags:
            arrays["flags"] = np.array([row["truncated"], row["replaced"]], np.uint8)
        return arrays

    def collate(self, arrays: dict[str, list[np.ndarray]]) -> dict[str, Any]:
        """Return what feature extraction does, and of texts {"flags": uint8 [B, 2]}."""
        inputs = super().collate(arrays)
        return {**inputs, "flags": np.stack(arrays["flags"])} if self._has_flags else inputs

    def decode(self, model: Model, latents: Tensor, inputs: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return {"logits": float32 [B, K], "embedding": float32 [B, D], "flags": uint8 [B, 2] of texts}."""
        pooled = pool(latents, inputs["counts"], self.probe.pooling)
        width = latents.shape[-1]
        return {
            "logits": self.probe.logits(pooled),
            "embedding": pooled[:, :width],  # the mean comes first
            "flags": inputs.get("flags"),
        }

    def rows(self, outputs: dict[str, Any]) -> dict[str, Sequence[Any] | np.ndarray]:
        """Return the columns of a micro-batch."""
        rows: dict[str, Sequence[Any] | np.ndarray] = dict(self.labels.rows(outputs["logits"]))
        if self._has_features:
            rows["embedding"] = outputs["embedding"].cpu().numpy()
        if self._has_flags:
            flags = outputs["flags"].astype(bool)
            rows |= {"truncated": flags[:, 0], "replaced": flags[:, 1]}
        return rows

    @property
    def _has_features(self) -> bool:
        return self.task_name == "feature-extraction"

    @property
    def _has_flags(self) -> bool:
        return self.task_name == "text-classification"
