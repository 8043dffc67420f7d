"""What every head is: one task's way from a medium to rows, without weights and without Arrow."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import numpy as np

if TYPE_CHECKING:  # load tasks unpickle heads and never need torch
    import torch

    from pipeline.perceiver import PerceiverIO

JSON: TypeAlias = str | int | float | bool | Sequence["JSON"] | Mapping[str, "JSON"] | None

ColumnType: TypeAlias = str | list["ColumnType"] | dict[str, "ColumnType"]
"""The type of an output column: the name of a scalar ("string", "int32", "int64", "float32", "float64", "float16",
"bool", "binary"), a list of one type for a list of that type, or a dict of types for a struct."""


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """What a user may ask of a head. `top_k`: best labels kept, at least 1; `logits`: keep the raw scores too."""

    top_k: int = 5
    logits: bool = False

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k ({self.top_k}) must be at least 1")


class Head(Protocol):
    """One task. Small and picklable: it travels to load tasks and replicas; the weights do not travel with it.

    In order: `transform` (CPU, one unit), `collate`, `forward` and `rows` (the device, one micro-batch of one bucket).
    """

    task: ClassVar[str]
    source: ClassVar[str]
    """Name of the source that reads this head's media where the user names none."""
    model_classes: ClassVar[tuple[str, ...]]
    """The classes of checkpoint that fit, by transformers' names."""

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> Head:
        """The head that fits the json files of a checkpoint in a local folder; CheckpointError where none does."""

    @property
    def unit_bytes(self) -> int:
        """Estimated bytes of one unit's arrays, the larger of what goes in and what comes out: sizes shards."""

    @property
    def columns(self) -> dict[str, ColumnType]:
        """The head's own output columns, in order."""

    @property
    def options(self) -> dict[str, JSON]:
        """What changes a prediction beside the checkpoint's weights, as json gives it back: for the fingerprint."""

    def transform(self, medium: Any) -> dict[str, np.ndarray]:
        """Named arrays of one unit, as they travel to the replica; ValueError where the medium cannot be predicted."""

    def bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Hashable:
        """What the units of one micro-batch have in common, from the shapes of one unit's arrays."""

    def collate(self, arrays: dict[str, list[np.ndarray]], device: torch.device | str) -> Any:
        """The inputs of one micro-batch on the device, from the arrays of units of one bucket."""

    def forward(self, model: PerceiverIO, inputs: Any) -> Any:
        """The outputs of one micro-batch, on the device."""

    def rows(self, outputs: Any) -> dict[str, list[Any] | np.ndarray]:
        """The columns of one micro-batch on the CPU, one value a unit, in the order of `collate`.

        Values are as Python or numpy writes their type; an array [B, n] stands for B lists.
        """
