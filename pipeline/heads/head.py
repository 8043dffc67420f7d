"""The interface of a head: one task's code from a medium to output columns, without weights and without Arrow."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeAlias

import numpy as np

from pipeline.formatting import did_you_mean
from pipeline.media import ClipSpec, MediumKind

if TYPE_CHECKING:  # load tasks unpickle heads and never need torch
    import torch

    from pipeline.heads.probe import Probe
    from pipeline.perceiver import PerceiverIO

Model: TypeAlias = "PerceiverIO"
Tensor: TypeAlias = "torch.Tensor"
DType: TypeAlias = "torch.dtype"

JSON: TypeAlias = str | int | float | bool | Sequence["JSON"] | Mapping[str, "JSON"] | None

ColumnType: TypeAlias = str | list["ColumnType"] | dict[str, "ColumnType"]
"""The type of an output column:

- the name of a scalar: "string", "int32", "int64", "float32", "float64", "float16", "bool" or "binary";
- a list with one type, for a list of that type;
- a dict of types, for a struct;
- a medium, which is given as an array and written as a struct of bytes and path: "png", uint8 [H, W, 3]; "mp4", uint8
  [T, H, W, 3] at 25 frames per second; "wav", float32 [S] in [-1, 1] at 48,000 samples per second, or "wav:16000" at
  another rate.
"""

WAV_RATE = 48_000  # samples per second of a "wav" column: of the published model

FLOW_OPTIONS = ("max_side", "flow_scale")

OUTPUTS = ("video", "audio", "label")
"""What can be decoded from the latents of a clip."""


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """Options of a user for a head. None, (), False and the defaults request nothing.

    Attributes:
        top_k: number of best labels in the output, at least 1.
        logits: also output the raw scores.
        latents: also output the latents, and whatever else is needed to decode them later.
        arrays: also output the values of a reconstruction.
        array_dtype: type of flow and latents.
        points: pixels (x, y) to decode; () for all.
        frames: indices of a clip's frames to decode; () for all.
        outputs: which of `OUTPUTS` to decode from a clip; () for all.
        max_side: pixels of the longer side to which larger frames of a pair are reduced; None for no limit.
        flow_scale: pixels of flow per unit of the model's output; None for that of the published checkpoint.
        probe: a linear probe that predicts in the place of the decoder.
    """

    top_k: int = 5
    logits: bool = False
    latents: bool = False
    arrays: bool = False
    array_dtype: Literal["float16", "float32"] = "float16"
    points: tuple[tuple[int, int], ...] = ()
    frames: tuple[int, ...] = ()
    outputs: tuple[str, ...] = ()
    max_side: int | None = None
    flow_scale: float | None = None
    probe: "Probe | None" = None

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k ({self.top_k}) must be at least 1")
        if unknown := sorted(set(self.outputs) - set(OUTPUTS)):
            meant = did_you_mean(unknown[0], OUTPUTS)
            raise ValueError(f"outputs has {unknown[0]!r}; each must be one of {', '.join(OUTPUTS)}{meant}")

    def reject_unsupported(self, task: str, *names: str) -> None:
        """Raise ValueError if one of the named options is set, because the task does not support it."""
        for name in names:
            if value := getattr(self, name):
                raise ValueError(f"{name} ({value}) is not supported for {task}")


class InputTransform(Protocol):
    """Turns media of one kind into latents. Small and picklable: it does not hold the weights.

    The steps are `transform` (in a CPU task, one unit), `collate` and `encode` (in a replica, one micro-batch of units
    of one bucket).
    """

    @property
    def medium(self) -> MediumKind:
        """The kind of medium that `transform` takes."""

    @property
    def unit_bytes(self) -> int:
        """Estimated bytes of a unit, the larger of its input and its output, if the size of its medium is unknown."""

    @property
    def bytes_per_medium_byte(self) -> float:
        """Bytes of a unit, the larger of its input and its output, per byte of its decoded medium; 0 if unrelated.

        By default 1: the medium is used unchanged.
        """
        return 1.0

    def passes(self, medium_bytes: int | None) -> float:  # noqa: ARG002
        """Return how often a unit goes through the model whose decoded medium has so many bytes, None if unknown."""
        return 1.0

    @property
    def clip_spec(self) -> ClipSpec | None:
        """The shape of the clips that `transform` takes; None for other media."""
        return None

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """Everything that changes a prediction, except the checkpoint's weights, as recorded in run.json."""
        return {}

    def transform(self, medium: Any) -> dict[str, np.ndarray]:
        """Return named arrays of one unit, small enough to travel to a replica.

        Raise ValueError if the medium cannot be predicted.
        """

    def bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Hashable:
        """Return what the units of a micro-batch must have in common, given the shapes of one unit's arrays.

        By default, units whose arrays have equal shapes are predicted together.
        """
        return tuple(sorted(shapes.items()))

    def collate(self, arrays: dict[str, list[np.ndarray]]) -> Any:
        """Return the inputs of a micro-batch, on the CPU, from the arrays of units of one bucket."""

    def encode(self, model: Model, inputs: Any) -> Tensor:
        """Return latents [T, N, D] of a micro-batch, ordered by unit, from the inputs on the model's device."""

    def latents_per_unit(self, inputs: Any) -> list[int]:
        """Return how many of the T latents belong to each unit: 1, except for frames in tiles and texts in windows."""
        first = next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs
        return [1] * len(first)


class Head(InputTransform, Protocol):
    """One task. After `encode` come `decode` and `rows`.

    For units with stored latents, `arrays_from_row` replaces `transform`, and `encode` is skipped.
    """

    task: ClassVar[str]
    model_classes: ClassVar[tuple[str, ...]]
    """transformers' names of the model classes that a checkpoint may have."""
    decodes: ClassVar[bool] = True
    """Whether latents are decoded, which for dense outputs costs more than encoding."""
    stored_columns: ClassVar[tuple[str, ...]] = ()
    """Output columns that `arrays_from_row` needs, in addition to the latents."""

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> Self:
        """Create the head from the JSON files of a checkpoint in a local folder.

        The model class is one of `model_classes`. Raise CheckpointError if the checkpoint has an invalid file, and
        ValueError if the task does not support an option.
        """

    @property
    def columns(self) -> dict[str, ColumnType]:
        """Types of the output columns, in order, without the latents."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels that the columns `label_id` and `label` can have; () without such columns."""
        return ()

    def arrays_from_row(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:  # noqa: ARG002
        """Return what `collate` and `decode` need of the arrays of `transform`, from a row of an earlier run."""
        return {}

    def decode(self, model: Model, latents: Tensor, inputs: Any) -> Any:
        """Return the outputs of a micro-batch, on the device, from latents [T, N, D] and the inputs of `collate`."""

    def rows(self, outputs: Any) -> Mapping[str, Sequence[Any] | np.ndarray]:
        """Return the output columns of a micro-batch, each with one value per unit in the order of `collate`.

        An array [B, n], and a list of B arrays of any lengths, stand for B lists.
        """


def wav_column(rate: int) -> ColumnType:
    """Return the type of a column with audio at `rate` samples per second."""
    return "wav" if rate == WAV_RATE else f"wav:{rate}"


def as_tensor(array: np.ndarray, device: Any = "cpu") -> Tensor:
    """Return a tensor of an array; on a CPU both share their memory."""
    import torch

    return torch.from_numpy(array).to(device)
