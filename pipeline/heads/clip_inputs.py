"""From a clip to latents: frames and sound of the checkpoint's size, checked on the CPU, scaled on the device."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.heads.head import JSON
from pipeline.heads.image_transform import center_crop
from pipeline.media import Clip, ClipSpec, MediumKind

if TYPE_CHECKING:  # load tasks transform without torch
    import torch

    from pipeline.perceiver import PerceiverIO

FPS = 25  # frames a second in Kinetics, which the published model learned from: no config says it
PATCH = 4  # pixels a side of what the model reads as one place

# Clips encoded or decoded at a time. One of the published size is 52,000 inputs, 0.15 GB of them before any projection,
# and enough to fill a CPU; a GPU takes a few.
CLIPS_PER_BATCH = {"cpu": 1, "cuda": 4}
# transformers' PerceiverConfig, where config.json says nothing.
_DEFAULTS: Mapping[str, Any] = {
    "num_frames": 16,
    "audio_samples_per_frame": 1920,
    "samples_per_patch": 16,
    "output_shape": (1, 16, 224, 224),
}


@dataclass(frozen=True, kw_only=True)
class ClipShape:
    """What one clip is made of: frames of `height` × `width` pixels at 25 a second, each with its samples of sound."""

    frames: int
    height: int
    width: int
    samples_per_frame: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ClipShape:
        """That of a config.json; ValueError names the key that the model could not be read or compared with."""
        values = {name: config.get(name, default) for name, default in _DEFAULTS.items()}
        frames, per_frame, per_patch = (_count(name, values[name]) for name in list(_DEFAULTS)[:3])
        output = values["output_shape"]
        if not isinstance(output, list | tuple) or len(output) != 4:
            raise ValueError(f"output_shape ({output!r}) must be four numbers: 1, frames, height, width")
        _, out_frames, height, width = (_count("output_shape", side) for side in output)
        if out_frames != frames:
            raise ValueError(f"output_shape {list(output)} must have num_frames ({frames}) frames, as the input has")
        if height % PATCH or width % PATCH:
            raise ValueError(f"output_shape {list(output)} must have sides that {PATCH} divides")
        if frames * per_frame % per_patch:
            raise ValueError(f"samples_per_patch ({per_patch}) must divide the {frames * per_frame} samples of a clip")
        return cls(frames=frames, height=height, width=width, samples_per_frame=per_frame)

    @property
    def samples(self) -> int:
        """Samples of sound a clip."""
        return self.frames * self.samples_per_frame

    @property
    def sample_rate(self) -> int:
        """Samples a second: 48,000 in the published model."""
        return FPS * self.samples_per_frame

    @property
    def pixels(self) -> int:
        """Pixels a frame."""
        return self.height * self.width

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """Everything, in the types that json gives back."""
        sides: dict[str, JSON] = {"frames": self.frames, "height": self.height, "width": self.width}
        return {**sides, "fps": FPS, "samples": self.samples, "sample_rate": self.sample_rate}


@dataclass(frozen=True, kw_only=True)
class ClipInputs:
    """The way of a clip into the latents: T frames [h, w] and S samples, together. Paper, multimodal autoencoding.

    The label, the model's third modality, is what it predicts: the engine puts its mask token in the label's place.
    """

    medium: ClassVar[MediumKind] = "clip"
    shape: ClipShape

    @classmethod
    def from_folder(cls, folder: Path) -> ClipInputs:
        """As the checkpoint in a local folder reads clips; CheckpointError where its config.json makes no sense."""
        from pipeline.heads.checkpoint_json import read_checkpoint_json

        return ClipInputs(shape=read_checkpoint_json(folder, "config.json", ClipShape.from_config))

    @property
    def unit_bytes(self) -> int:
        """Bytes of one clip's frames and samples."""
        return 3 * self.shape.frames * self.shape.pixels + 4 * self.shape.samples

    @property
    def bytes_per_medium_byte(self) -> float:
        """Clips are given as they travel."""
        return 1.0

    @property
    def clip_spec(self) -> ClipSpec:
        """T frames at 25 a second, made of a video's by `reduce_frame`, and S samples."""
        shape = self.shape
        return ClipSpec(
            frames=shape.frames,
            fps=float(FPS),
            samples=shape.samples,
            sample_rate=shape.sample_rate,
            reduce=partial(reduce_frame, height=shape.height, width=shape.width),
        )

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """The shape of a clip."""
        return {"clip": self.shape.fingerprint_options}

    def transform(self, medium: Clip) -> dict[str, np.ndarray]:
        """{"frames": uint8 [T, h, w, 3], "samples": float32 [S], "times": float64 [3], "flags": int32 [2]}.

        times: number of the clip, seconds where it starts and ends; flags: whether it has sound, how many of its frames
        are padding. ValueError where frames or samples are not of the checkpoint's shape.
        """
        frames, samples, shape = np.asarray(medium.frames), np.asarray(medium.samples), self.shape
        _check("frames", frames, (shape.frames, shape.height, shape.width, 3), np.uint8)
        _check("samples", samples, (shape.samples,), np.float32)
        return {"frames": frames, "samples": samples, **times_and_flags(vars(medium))}

    def bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Hashable:  # noqa: ARG002
        """All clips of a checkpoint are of one shape."""
        return None

    def collate(self, arrays: dict[str, list[np.ndarray]], device: torch.device | str) -> dict[str, Any]:
        """{"frames": uint8 [B, T, h, w, 3], "samples": float32 [B, S], "times": [B, 3], "flags": [B, 2]}.

        Frames and samples on the device, left out where the clips are restored from latents; the others in numpy.
        """
        import torch

        stacked = {name: np.stack(values) for name, values in arrays.items()}
        inputs: dict[str, Any] = {"times": stacked.pop("times"), "flags": stacked.pop("flags")}
        return inputs | {name: torch.from_numpy(values).to(device) for name, values in stacked.items()}

    def encode(self, model: PerceiverIO, inputs: dict[str, Any]) -> torch.Tensor:
        """Latents [B, N, D] of pixels in [0, 1] and samples in [-1, 1], a few clips at a time."""
        import torch

        return torch.cat([_encode(model, part) for part in in_parts(inputs, len(inputs["times"]), model.device)])

    def latents_per_unit(self, inputs: dict[str, Any]) -> list[int]:
        """One for each clip."""
        return [1] * len(inputs["times"])


def reduce_frame(frame: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3] from a frame uint8 [H, W, 3]: the largest centred part of that aspect, resized.

    The model reads squares: of a frame's shorter side, then. Pillow's bilinear filter, which widens as it shrinks.
    """
    from PIL import Image

    above, beside = frame.shape[0] * width, frame.shape[1] * height
    if above <= beside:
        cut = center_crop(frame, frame.shape[0], max(1, round(above / height)))
    else:
        cut = center_crop(frame, max(1, round(beside / width)), frame.shape[1])
    picture = Image.fromarray(np.ascontiguousarray(cut))
    return np.array(picture.resize((width, height), resample=Image.Resampling.BILINEAR))


def times_and_flags(clip: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays "times" and "flags" from the fields of a `Clip`, which are also columns of its row."""
    times = [clip["clip_index"], clip["start_seconds"], clip["end_seconds"]]
    return {
        "times": np.array(times, np.float64),
        "flags": np.array([clip["has_audio"], clip["padded_frames"]], np.int32),
    }


def in_parts(arrays: Mapping[str, Any], count: int, device: torch.device) -> Iterator[dict[str, Any]]:
    """The arrays [B, …] of B clips, as many at a time as the device shall hold."""
    step = CLIPS_PER_BATCH.get(device.type, 1)
    for at in range(0, count, step):
        yield {name: array[at : at + step] for name, array in arrays.items()}


def _encode(model: PerceiverIO, clips: Mapping[str, torch.Tensor]) -> torch.Tensor:
    image = clips["frames"].permute(0, 1, 4, 2, 3).float() / 255
    return model.encode({"audio": clips["samples"].unsqueeze(-1), "image": image})


def _check(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    if array.shape != shape or array.dtype != dtype:
        found, wanted = f"{array.dtype} {list(array.shape)}", f"{np.dtype(dtype)} {list(shape)}"
        raise ValueError(f"{name} are {found}, the checkpoint's clips have {wanted}")


def _count(name: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError(f"{name} ({value!r}) must be a number of at least 1")
