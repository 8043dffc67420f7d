"""What every head is: one task's way from a medium to rows, without weights and without Arrow."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np

from pipeline.media import ClipSpec, MediumKind

if TYPE_CHECKING:  # load tasks unpickle heads and never need torch
    import torch

    from pipeline.perceiver import PerceiverIO

JSON: TypeAlias = str | int | float | bool | Sequence["JSON"] | Mapping[str, "JSON"] | None

ColumnType: TypeAlias = str | list["ColumnType"] | dict[str, "ColumnType"]
"""The type of an output column: the name of a scalar ("string", "int32", "int64", "float32", "float64", "float16",
"bool", "binary"), a list of one type for a list of that type, a dict of types for a struct; or a medium, which is given
as an array and becomes a struct of bytes and path when it is written:

- "png": uint8 [H, W, 3].
- "mp4": uint8 [T, H, W, 3], at 25 frames a second.
- "wav": float32 [S] in [-1, 1], at 48,000 samples a second.
"""

OUTPUTS = ("video", "audio", "label")
"""What can be decoded of a clip."""


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """What a user may ask of a head. None, () and False ask for nothing.

    top_k: best labels kept, at least 1. logits: keep the raw scores too. latents: keep the latents too, and whatever
    else decoding them again needs. arrays: keep a reconstruction's values too. array_dtype: of flow and latents.
    points: the pixels (x, y) to decode; all by default. frames: those of a clip to decode, by number; all by default.
    outputs: what to decode of a clip; everything by default.
    """

    top_k: int = 5
    logits: bool = False
    latents: bool = False
    arrays: bool = False
    array_dtype: Literal["float16", "float32"] = "float16"
    points: tuple[tuple[int, int], ...] = ()
    frames: tuple[int, ...] = ()
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k ({self.top_k}) must be at least 1")
        if unknown := sorted(set(self.outputs) - set(OUTPUTS)):
            raise ValueError(f"outputs has {unknown[0]!r}, which is none of {', '.join(OUTPUTS)}")

    def reject_unsupported(self, task: str, *names: str) -> None:
        """ValueError where one of the options is asked for, which mean nothing to the task."""
        for name in names:
            if value := getattr(self, name):
                raise ValueError(f"{name} ({value}) is not supported for {task}")


class InputTransform(Protocol):
    """The way of one kind of medium into the latents. Small and picklable: the weights do not travel with it.

    In order: `transform` (CPU, one unit), `collate` and `encode` (the device, one micro-batch of one bucket).
    """

    @property
    def medium(self) -> MediumKind:
        """What it reads of each unit: "text", "image", "frame_pair", "clip" or "array", as sources give it."""

    @property
    def unit_bytes(self) -> int:
        """Estimated bytes of one unit, the larger of what goes in and what comes out, where the source knows nothing of
        the medium's size: sizes shards."""

    @property
    def bytes_per_medium_byte(self) -> float:
        """Bytes of one unit, the larger of what goes in and what comes out, over those of its decoded medium; 0 where
        they do not follow its size."""

    @property
    def clip_spec(self) -> ClipSpec | None:
        """The shape of the clips that it reads; None if it reads other media."""

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """What changes a prediction beside the checkpoint's weights, as json gives it back: for the fingerprint."""

    def transform(self, medium: Any) -> dict[str, np.ndarray]:
        """Named arrays of one unit, as they travel to the replica; ValueError where the medium cannot be predicted."""

    def bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Hashable:
        """What the units of one micro-batch have in common, from the shapes of one unit's arrays."""

    def collate(self, arrays: dict[str, list[np.ndarray]], device: torch.device | str) -> Any:
        """The inputs of one micro-batch on the device, from the arrays of units of one bucket."""

    def encode(self, model: PerceiverIO, inputs: Any) -> torch.Tensor:
        """Latents [T, N, D] of one micro-batch, those of each unit one after another."""

    def latents_per_unit(self, inputs: Any) -> list[int]:
        """How many of the T latents belong to each unit: 1, but for tiles of a frame and windows of a text."""


class Head(InputTransform, Protocol):
    """One task. After `encode` come `decode` and `rows`. One with stored latents has `restore` in place of `transform`,
    and `collate` works on what that gave."""

    task: ClassVar[str]
    model_classes: ClassVar[tuple[str, ...]]
    """The classes of checkpoint that fit, by transformers' names."""
    stored_columns: ClassVar[tuple[str, ...]]
    """Columns of its rows, beside the latents, that `restore` needs."""

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> Head:
        """The head that fits the json files of a checkpoint in a local folder; CheckpointError where none does."""

    @property
    def columns(self) -> dict[str, ColumnType]:
        """The head's own output columns, in order; the latents' come behind them where they are kept."""

    def arrays_from_row(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """What `transform` gave for the unit of a row of an earlier run, as far as `collate` and `decode` need it."""

    def decode(self, model: PerceiverIO, latents: torch.Tensor, inputs: Any) -> Any:
        """The outputs of one micro-batch, on the device, from latents [T, N, D] and the inputs of `collate`."""

    def rows(self, outputs: Any) -> Mapping[str, Sequence[Any] | np.ndarray]:
        """The columns of one micro-batch on the CPU, one value a unit, in the order of `collate`.

        Values are as Python or numpy writes their type; an array [B, n] stands for B lists, and so does a list of
        arrays of any lengths.
        """
