"""Clips as inputs: frames and audio of the checkpoint's size, checked on the CPU and scaled on the device."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from pipeline.checkpoints import parse_json
from pipeline.heads.config_values import positive_int
from pipeline.heads.head import JSON, InputTransform, Model, Tensor, as_tensor
from pipeline.heads.image_transform import center_crop
from pipeline.media import Clip, ClipSpec, MediumKind

FPS = 25  # frames per second in Kinetics, on which the published model was trained; no config contains it
PATCH = 4  # pixels per side of a patch of the model's image preprocessor

# Clips encoded or decoded at a time. A published one has 52,000 inputs, 0.15 GB of them before any projection, which is
# enough to keep a CPU busy; a GPU takes a few.
CLIPS_PER_BATCH = {"cpu": 1, "cuda": 4}

# Defaults of transformers' PerceiverConfig.
_DEFAULTS: Mapping[str, Any] = {
    "num_frames": 16,
    "audio_samples_per_frame": 1920,
    "samples_per_patch": 16,
    "output_shape": (1, 16, 224, 224),
}


@dataclass(frozen=True, kw_only=True)
class ClipShape:
    """The size of a clip: `frames` frames of `height` × `width` pixels at 25 per second, and their audio samples."""

    frames: int
    height: int
    width: int
    samples_per_frame: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read a config.json. Raise ValueError, with the key, if the model could not read or reconstruct such clips."""
        values = {name: config.get(name, default) for name, default in _DEFAULTS.items()}
        frames, per_frame, per_patch = (positive_int(name, values[name]) for name in list(_DEFAULTS)[:3])
        output = values["output_shape"]
        if not isinstance(output, list | tuple) or len(output) != 4:
            raise ValueError(f"output_shape ({output!r}) must be four numbers: 1, frames, height, width")
        _, out_frames, height, width = (positive_int("output_shape", side) for side in output)
        if out_frames != frames:
            required = f"as many frames as the input, num_frames ({frames})"
            raise ValueError(f"output_shape {list(output)} must have {required}")
        if height % PATCH or width % PATCH:
            raise ValueError(f"output_shape {list(output)} must have a height and width divisible by {PATCH}")
        if frames * per_frame % per_patch:
            raise ValueError(f"samples_per_patch ({per_patch}) must divide the {frames * per_frame} samples of a clip")
        return cls(frames=frames, height=height, width=width, samples_per_frame=per_frame)

    @property
    def samples(self) -> int:
        """Audio samples per clip."""
        return self.frames * self.samples_per_frame

    @property
    def sample_rate(self) -> int:
        """Audio samples per second: 48,000 for the published model."""
        return FPS * self.samples_per_frame

    @property
    def pixels(self) -> int:
        """Pixels per frame."""
        return self.height * self.width


@dataclass(frozen=True, kw_only=True)
class ClipInputs(InputTransform):
    """Clips of T frames [h, w] and S audio samples, encoded together. Paper, "Multimodal autoencoding".

    The label, the model's third modality, is what the model predicts: the engine puts its mask token in its place.
    """

    medium: ClassVar[MediumKind] = "clip"
    shape: ClipShape

    @classmethod
    def from_folder(cls, folder: Path, **fields: Any) -> Self:
        """Read the clip shape of a checkpoint in a local folder. Raise CheckpointError if config.json is invalid.

        fields: those of a subclass.
        """
        return cls(shape=parse_json(folder, "config.json", ClipShape.from_config), **fields)

    @property
    def unit_bytes(self) -> int:
        """Bytes of a clip's frames and samples."""
        return 3 * self.shape.frames * self.shape.pixels + 4 * self.shape.samples

    @property
    def clip_spec(self) -> ClipSpec:
        """T frames at 25 per second, cropped and resized by `reduce_frame`, and S samples."""
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
        shape = self.shape
        sides: dict[str, JSON] = {"frames": shape.frames, "height": shape.height, "width": shape.width}
        return {"clip": {**sides, "fps": FPS, "samples": shape.samples, "sample_rate": shape.sample_rate}}

    def transform(self, medium: Clip) -> dict[str, np.ndarray]:
        """Return {"frames": uint8 [T, h, w, 3], "samples": float32 [S]} and the arrays of `position_arrays`.

        Raise ValueError if frames or samples do not have the checkpoint's shape.
        """
        shape = self.shape
        _check("frames", medium.frames, (shape.frames, shape.height, shape.width, 3), np.uint8)
        _check("samples", medium.samples, (shape.samples,), np.float32)
        times = medium.clip_index, medium.start_seconds, medium.end_seconds
        flags = medium.has_audio, medium.padded_frames
        return {"frames": medium.frames, "samples": medium.samples, **position_arrays(times, flags)}

    def collate(self, arrays: dict[str, list[np.ndarray]]) -> dict[str, Any]:
        """Return tensors "frames" uint8 [B, T, h, w, 3] and "samples" float32 [B, S], and arrays "times" and "flags".

        Without frames and samples for clips with stored latents.
        """
        stacked: dict[str, Any] = {name: np.stack(values) for name, values in arrays.items()}
        for name in stacked.keys() & {"frames", "samples"}:
            stacked[name] = as_tensor(stacked[name])
        return stacked

    def encode(self, model: Model, inputs: dict[str, Any]) -> Tensor:
        """Return latents [B, N, D], from pixels scaled to [0, 1] and samples in [-1, 1], a few clips at a time."""
        import torch

        latents = []
        for clips in split_clips(inputs, model.device.type):
            image = clips["frames"].permute(0, 1, 4, 2, 3).float() / 255
            latents.append(model.encode({"audio": clips["samples"].unsqueeze(-1), "image": image}))
        return torch.cat(latents)


def reduce_frame(frame: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Cut the largest centred part with the aspect ratio width : height and resize it to uint8 [height, width, 3].

    The resizing filter is Pillow's bilinear one, which is antialiased. `frame`: uint8 [H, W, 3].
    """
    from PIL import Image

    rows, columns = frame.shape[:2]
    if rows * width <= columns * height:
        columns = max(1, round(rows * width / height))
    else:
        rows = max(1, round(columns * height / width))
    image = Image.fromarray(np.ascontiguousarray(center_crop(frame, rows, columns)))
    return np.array(image.resize((width, height), resample=Image.Resampling.BILINEAR))


def position_arrays(times: Sequence[float], flags: Sequence[int]) -> dict[str, np.ndarray]:
    """Return a clip's place in its video as arrays.

    "times": float64 [3], clip index, start and end in seconds. "flags": int32 [2], has_audio and padded_frames.
    """
    return {"times": np.array(times, np.float64), "flags": np.array(flags, np.int32)}


def split_clips(arrays: Mapping[str, Any], device: str) -> Iterator[dict[str, Any]]:
    """Split arrays [B, …] of B clips into as many at a time as `CLIPS_PER_BATCH` allows."""
    step = CLIPS_PER_BATCH.get(device, 1)
    for at in range(0, len(arrays["times"]), step):
        yield {name: array[at : at + step] for name, array in arrays.items()}


def _check(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    if array.shape != shape or array.dtype != dtype:
        found, wanted = f"{array.dtype} {list(array.shape)}", f"{np.dtype(dtype)} {list(shape)}"
        raise ValueError(f"{name} ({found}) must be {wanted}, as the checkpoint requires")
