"""Multimodal autoencoding: reconstructed frames and audio, and the label, of a clip. Paper, on Kinetics-700."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipeline.checkpoints import parse_json
from pipeline.heads.clip_inputs import ClipInputs, ClipShape, position_arrays, split_clips
from pipeline.heads.head import (
    FLOW_OPTIONS,
    JSON,
    OUTPUTS,
    ColumnType,
    Head,
    HeadOptions,
    Model,
    Tensor,
    as_tensor,
    wav_column,
)
from pipeline.heads.labels import Labels

_MODALITIES = {"video": "image", "audio": "audio", "label": "label"}  # the model's names of the outputs
_TIMES: dict[str, ColumnType] = {"clip_index": "int64", "start_seconds": "float64", "end_seconds": "float64"}
_FLAGS: dict[str, ColumnType] = {"has_audio": "bool", "padded_frames": "int32"}


@dataclass(frozen=True, kw_only=True)
class MultimodalAutoencoding(ClipInputs, Head):
    """The head of the multimodal model. A clip is encoded once; only the requested outputs are decoded.

    Attributes:
        outputs: some of "video", "audio" and "label", in that order.
        frames: indices of the frames to decode; () for all.
        points: pixels (x, y) of each of them to decode; () for all.
        arrays: also output the values of frames and samples.
    """

    task: ClassVar[str] = "multimodal-autoencoding"
    model_classes: ClassVar[tuple[str, ...]] = ("PerceiverForMultimodalAutoencoding",)
    stored_columns: ClassVar[tuple[str, ...]] = (*_TIMES, *_FLAGS)
    labels: Labels
    outputs: tuple[str, ...]
    frames: tuple[int, ...]
    points: tuple[tuple[int, int], ...]
    arrays: bool

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> MultimodalAutoencoding:
        """Create the head from config.json.

        Raise CheckpointError if config.json is invalid, and ValueError if a frame or point lies outside a clip, or an
        option is not supported for the requested outputs.
        """
        outputs = tuple(name for name in OUTPUTS if name in (options.outputs or OUTPUTS))
        head = cls.from_folder(
            folder,
            labels=parse_json(folder, "config.json", Labels.from_config, options),
            outputs=outputs,
            frames=options.frames,
            points=options.points,
            arrays=options.arrays,
        )
        _check_options(options, outputs, head.shape)
        return head

    @property
    def columns(self) -> dict[str, ColumnType]:
        """The clip's place in its video, then the columns of each requested output.

        label: those of `Labels`. video: mp4; with `points` instead pixels [F, P, 3] in [0, 1], flattened. audio: wav.
        video_psnr_db, audio_psnr_db: their quality against the input. With `arrays`, flattened: frames [F, h, w, 3] in
        [0, 1], samples [S] in [-1, 1].
        """
        optional: dict[str, tuple[bool, ColumnType]] = {
            "pixels": ("video" in self.outputs and bool(self.points), ["float32"]),
            "video": ("video" in self.outputs and not self.points, "mp4"),
            "audio": ("audio" in self.outputs, wav_column(self.shape.sample_rate)),
            "video_psnr_db": ("video" in self.outputs, "float64"),
            "audio_psnr_db": ("audio" in self.outputs, "float64"),
            "frames": ("video" in self.outputs and self.arrays and not self.points, ["float32"]),
            "samples": ("audio" in self.outputs and self.arrays, ["float32"]),
        }
        labels = self.labels.columns if "label" in self.outputs else {}
        return {**_TIMES, **_FLAGS, **labels, **{name: kind for name, (kept, kind) in optional.items() if kept}}

    @property
    def unit_bytes(self) -> int:
        """Bytes of a clip's frames and samples, or of its outputs if they are larger."""
        columns, shape = self.columns, self.shape
        values = 3 * len(self.frames or range(shape.frames)) * (len(self.points) or shape.pixels)
        sizes = {"video": values, "pixels": 4 * values, "frames": 4 * values}
        sizes |= {"audio": 4 * shape.samples, "samples": 4 * shape.samples}
        return max(super().unit_bytes, sum(size for name, size in sizes.items() if name in columns))

    @property
    def bytes_per_medium_byte(self) -> float:
        """`unit_bytes` per byte of a clip's frames and samples."""
        return self.unit_bytes / super().unit_bytes

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels of the checkpoint."""
        return self.labels.names if "label" in self.outputs else ()

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """The shape of a clip and the output options."""
        return {
            **super().fingerprint_options,
            "outputs": list(self.outputs),
            "frames": list(self.frames),
            "points": [list(point) for point in self.points],
            "arrays": self.arrays,
            **(self.labels.fingerprint_options if "label" in self.outputs else {}),
        }

    def arrays_from_row(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the arrays of `position_arrays`. The frames and samples were not stored."""
        return position_arrays([row[name] for name in _TIMES], [row[name] for name in _FLAGS])

    def decode(self, model: Model, latents: Tensor, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return "times", "flags" and the requested outputs, decoded a few clips at a time to bound memory.

        label: logits [B, labels]. video: uint8 [B, F, h, w, 3]. pixels: float32 [B, F, P, 3] in [0, 1]. frames: float32
        [B, F, h, w, 3] in [0, 1]. audio: float32 [B, S] in [-1, 1]. video_psnr_db, audio_psnr_db: float64 [B], missing
        if the inputs are.
        """
        import torch

        indices = self._pixel_indices()
        pixels = None if indices is None else as_tensor(indices, latents.device)
        clips = split_clips({**inputs, "latents": latents}, latents.device.type)
        parts = [self._decode_clips(model, part, pixels) for part in clips]
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {**joined, "times": inputs["times"], "flags": inputs["flags"]}

    def rows(self, outputs: dict[str, Any]) -> dict[str, Sequence[Any] | np.ndarray]:
        """Return the columns of a micro-batch. The quality is None if there was no input to compare with."""
        times, flags = outputs["times"], outputs["flags"]
        rows: dict[str, Sequence[Any] | np.ndarray] = {
            "clip_index": times[:, 0].astype(np.int64),
            "start_seconds": times[:, 1],
            "end_seconds": times[:, 2],
            "has_audio": flags[:, 0].astype(bool),
            "padded_frames": flags[:, 1],
        }
        if "label" in outputs:
            rows |= self.labels.rows(outputs["label"])
        for name in [name for name in self.columns if name not in rows]:
            if name.endswith("_psnr_db"):
                decibels = outputs[name].tolist() if name in outputs else [None] * len(flags)
                known = flags[:, 0] if name == "audio_psnr_db" else np.ones(len(flags))
                rows[name] = [value if there else None for value, there in zip(decibels, known, strict=True)]
            else:
                rows[name] = outputs["audio" if name == "samples" else name].cpu().numpy()
        return rows

    def _pixel_indices(self) -> np.ndarray | None:
        """Return flat indices int64 [F · P] into [T, h, w] of the pixels to decode, by frame; None for all pixels."""
        if not self.frames and not self.points:
            return None
        frames = np.array(self.frames or range(self.shape.frames))
        pixels = np.array([y * self.shape.width + x for x, y in self.points] or range(self.shape.pixels))
        return (frames[:, None] * self.shape.pixels + pixels).reshape(-1)

    def _decode_clips(self, model: Model, clips: Mapping[str, Any], indices: Tensor | None) -> dict[str, Tensor]:
        """Decode as many clips as the device decodes at a time; see `decode`."""
        points = {_MODALITIES[name]: indices if name == "video" else None for name in self.outputs}
        decoded = model.decode(clips["latents"], points)
        outputs = {"label": decoded["label"]} if "label" in decoded else {}
        if "image" in decoded:
            outputs |= self._video(decoded["image"], clips.get("frames"), indices)
        if "audio" in decoded:
            outputs["audio"] = decoded["audio"].float().clamp(-1, 1)
            if "samples" in clips:
                outputs["audio_psnr_db"] = _psnr(outputs["audio"], clips["samples"], peak=2)
        return outputs

    def _video(self, image: Tensor, frames: Tensor | None, indices: Tensor | None) -> dict[str, Tensor]:
        """Return the outputs of decoded pixels [b, F · P, 3] and their quality against input frames [b, T, h, w, 3]."""
        pixels, outputs = image.float().clamp(0, 1), {}
        if frames is not None:
            original = frames.flatten(1, 3) if indices is None else frames.flatten(1, 3)[:, indices]
            outputs["video_psnr_db"] = _psnr(pixels, original.float() / 255, peak=1)
        if self.points:
            return {**outputs, "pixels": pixels.unflatten(1, (-1, len(self.points)))}
        images = pixels.unflatten(1, (-1, self.shape.height, self.shape.width))
        outputs["video"] = (images * 255).round().byte()
        return {**outputs, "frames": images} if self.arrays else outputs


def _psnr(found: Tensor, original: Tensor, *, peak: float) -> Tensor:
    """Return the peak signal-to-noise ratio of each unit in decibels, float64 [b]; infinite if nothing differs.

    `peak`: difference between the greatest and the least possible value.
    """
    squares = (found - original).double().square().flatten(1).mean(dim=1)
    return 10 * (peak**2 / squares).log10()


def _check_options(options: HeadOptions, outputs: tuple[str, ...], shape: ClipShape) -> None:
    """Raise ValueError for an option of an output that is not requested, and for a frame or point outside a clip."""
    task = MultimodalAutoencoding.task
    options.reject_unsupported(task, *FLOW_OPTIONS)
    if "label" not in outputs:
        options.reject_unsupported(f"{task} without its label", "logits")
    if "video" not in outputs:
        options.reject_unsupported(f"{task} without its video", "frames", "points")
        if "audio" not in outputs:
            options.reject_unsupported(f"{task} without its video and audio", "arrays")
    for frame in options.frames:
        if not 0 <= frame < shape.frames:
            raise ValueError(f"frames has {frame}, a clip has the frames 0 to {shape.frames - 1}")
    for x, y in options.points:
        if not (0 <= x < shape.width and 0 <= y < shape.height):
            raise ValueError(f"points has {x},{y}, a frame has the pixels 0,0 to {shape.width - 1},{shape.height - 1}")
