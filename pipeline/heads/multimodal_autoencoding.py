"""Multimodal autoencoding: a clip's frames, sound and label out of its latents. Paper, on Kinetics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.heads.clip_inputs import ClipInputs, ClipShape, in_parts, times_and_flags
from pipeline.heads.head import JSON, OUTPUTS, ColumnType, HeadOptions
from pipeline.heads.labels import Labels

if TYPE_CHECKING:  # load tasks transform without torch
    import torch

    from pipeline.perceiver import PerceiverIO

_MODEL_NAMES = {"video": "image", "audio": "audio", "label": "label"}
_CLIP: dict[str, ColumnType] = {
    "clip_index": "int64",
    "start_seconds": "float64",
    "end_seconds": "float64",
    "has_audio": "bool",
    "padded_frames": "int32",
}


@dataclass(frozen=True, kw_only=True)
class MultimodalAutoencoding(ClipInputs):
    """The head of the multimodal model. Latents are made once; only what is asked for is decoded from them.

    outputs: some of "video", "audio", "label", in that order. frames: numbers of those to decode, () for all.
    points: pixels (x, y) of each of them to decode, () for all. arrays: keep the values of frames and samples too.
    """

    task: ClassVar[str] = "multimodal-autoencoding"
    model_classes: ClassVar[tuple[str, ...]] = ("PerceiverForMultimodalAutoencoding",)
    stored_columns: ClassVar[tuple[str, ...]] = tuple(_CLIP)
    labels: Labels
    outputs: tuple[str, ...]
    frames: tuple[int, ...]
    points: tuple[tuple[int, int], ...]
    arrays: bool

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> MultimodalAutoencoding:
        """The head of a checkpoint in a local folder, from its config.json.

        CheckpointError where the checkpoint is of another class, or its config.json makes no sense. ValueError where a
        frame or point lies outside a clip, or an option has no meaning for the outputs that are asked for.
        """
        from pipeline.heads.checkpoint_json import check_class, read_checkpoint_json

        check_class(folder, cls.task, cls.model_classes)
        outputs = tuple(name for name in OUTPUTS if name in (options.outputs or OUTPUTS))
        shape = cls.from_folder(folder).shape
        _check_options(options, outputs)
        _check_places(options, shape)
        return cls(
            shape=shape,
            labels=read_checkpoint_json(folder, "config.json", lambda config: Labels.from_config(config, options)),
            outputs=outputs,
            frames=options.frames,
            points=options.points,
            arrays=options.arrays,
        )

    @property
    def columns(self) -> dict[str, ColumnType]:
        """Which part of the video it is, then of each output that is asked for: the label's columns; video (mp4) or,
        where points are asked for, pixels [F, P, 3] in [0, 1], flattened; audio (wav); the quality of both against what
        was read, in decibels; and on demand frames [F, h, w, 3] in [0, 1] and samples [S] in [-1, 1], flattened."""
        video, audio = "video" in self.outputs, "audio" in self.outputs
        columns = dict(_CLIP)
        if "label" in self.outputs:
            columns |= self.labels.columns
        if video:
            columns |= {"pixels": ["float32"]} if self.points else {"video": "mp4"}
        if audio:
            columns["audio"] = "wav"
        columns |= {f"{name}_psnr_db": "float64" for name in ("video", "audio") if name in self.outputs}
        if video and self.arrays and not self.points:
            columns["frames"] = ["float32"]
        if audio and self.arrays:
            columns["samples"] = ["float32"]
        return columns

    @property
    def unit_bytes(self) -> int:
        """Bytes of one clip's frames and samples as they are read, or of what comes out where that is more."""
        columns, shape = self.columns, self.shape
        pixels = 3 * len(self.frames or range(shape.frames)) * (len(self.points) or shape.pixels)
        sizes = {"video": pixels, "pixels": 4 * pixels, "frames": 4 * pixels}
        sizes |= {"audio": 4 * shape.samples, "samples": 4 * shape.samples}
        return max(super().unit_bytes, sum(size for name, size in sizes.items() if name in columns))

    @property
    def bytes_per_medium_byte(self) -> float:
        """Bytes of one clip over those of its frames and samples."""
        return self.unit_bytes / super().unit_bytes

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """Shape of a clip and output options."""
        return {
            **super().fingerprint_options,
            "outputs": list(self.outputs),
            "frames": list(self.frames),
            "points": [list(point) for point in self.points],
            "arrays": self.arrays,
            **(self.labels.fingerprint_options if "label" in self.outputs else {}),
        }

    def arrays_from_row(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """{"times", "flags"}: all that is needed of a clip whose latents are there. What was read of it is gone."""
        return times_and_flags(row)

    def decode(self, model: PerceiverIO, latents: torch.Tensor, inputs: dict[str, Any]) -> dict[str, Any]:
        """times, flags, and on the device what is asked for, a few clips at a time so that memory does not grow.

        label: logits [B, labels]. video: uint8 [B, F, h, w, 3]. pixels: float32 [B, F, P, 3] in [0, 1]. frames: float32
        [B, F, h, w, 3] in [0, 1]. audio: float32 [B, S] in [-1, 1]. video_psnr_db, audio_psnr_db: float64 [B], left out
        where the inputs are.
        """
        import torch

        places = self._places()
        asked = None if places is None else torch.from_numpy(places).to(latents.device)
        clips = in_parts({**inputs, "latents": latents}, len(latents), latents.device)
        parts = [self._decode(model, part, asked) for part in clips]
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {**joined, "times": inputs["times"], "flags": inputs["flags"]}

    def rows(self, outputs: dict[str, Any]) -> dict[str, Sequence[Any] | np.ndarray]:
        """The columns of a micro-batch. Quality is None where nothing was read to compare with."""
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
                heard = flags[:, 0] if name == "audio_psnr_db" else np.ones(len(flags))
                rows[name] = _quality(outputs.get(name), heard)
            else:
                source = "audio" if name == "samples" else name
                rows[name] = outputs[source].cpu().numpy()
        return rows

    def _places(self) -> np.ndarray | None:
        """Flat indices int64 [F · P] of the asked pixels among [T, h, w], frame by frame; None where all are asked."""
        if not self.frames and not self.points:
            return None
        frames = np.array(self.frames or range(self.shape.frames))
        pixels = np.array([y * self.shape.width + x for x, y in self.points] or range(self.shape.pixels))
        return (frames[:, None] * self.shape.pixels + pixels).reshape(-1)

    def _decode(
        self, model: PerceiverIO, clips: Mapping[str, Any], places: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """`decode` for the few clips that the device holds at once."""
        asked = {_MODEL_NAMES[name]: places if name == "video" else None for name in self.outputs}
        decoded = model.decode(clips["latents"], asked)
        found = {"label": decoded["label"]} if "label" in decoded else {}
        if "image" in decoded:
            found |= self._video(decoded["image"], clips.get("frames"), places)
        if "audio" in decoded:
            found |= _audio(decoded["audio"], clips.get("samples"))
        return found

    def _video(
        self, image: torch.Tensor, read: torch.Tensor | None, places: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """What of decoded pixels [b, F · P, 3] is kept, and their quality against the frames [b, T, h, w, 3] read."""
        pixels, found = image.float().clamp(0, 1), {}
        if read is not None:
            original = read.flatten(1, 3) if places is None else read.flatten(1, 3)[:, places]
            found["video_psnr_db"] = _psnr(pixels, original.float() / 255, peak=1)
        if self.points:
            return {**found, "pixels": pixels.unflatten(1, (-1, len(self.points)))}
        frames = pixels.unflatten(1, (-1, self.shape.height, self.shape.width))
        found["video"] = (frames * 255).round().byte()
        return {**found, "frames": frames} if self.arrays else found


def _audio(audio: torch.Tensor, read: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Samples [b, S], and their quality against those that were read."""
    samples = audio.float().clamp(-1, 1)
    return {"audio": samples} | ({} if read is None else {"audio_psnr_db": _psnr(samples, read, peak=2)})


def _psnr(found: torch.Tensor, original: torch.Tensor, *, peak: float) -> torch.Tensor:
    """Decibels float64 [b], by the mean square over all of a unit; infinite where nothing differs.

    peak: from the least value that there can be to the greatest.
    """
    squares = (found - original).double().square().flatten(1).mean(dim=1)
    return 10 * (peak**2 / squares).log10()


def _quality(decibels: torch.Tensor | None, known: np.ndarray) -> list[float | None]:
    """One number a unit, None where it is not known."""
    if decibels is None:
        return [None] * len(known)
    return [value if there else None for value, there in zip(decibels.tolist(), known, strict=True)]


def _check_options(options: HeadOptions, outputs: tuple[str, ...]) -> None:
    """ValueError where an option is about an output that is not asked for."""
    task = MultimodalAutoencoding.task
    if "label" not in outputs:
        options.reject_unsupported(f"{task} without its label", "logits")
    if "video" not in outputs:
        options.reject_unsupported(f"{task} without its video", "frames", "points")
        if "audio" not in outputs:
            options.reject_unsupported(f"{task} without its video and audio", "arrays")


def _check_places(options: HeadOptions, shape: ClipShape) -> None:
    """ValueError where a frame or point is none of a clip's."""
    for frame in options.frames:
        if not 0 <= frame < shape.frames:
            raise ValueError(f"frames has {frame}, a clip has the frames 0 to {shape.frames - 1}")
    for x, y in options.points:
        if not (0 <= x < shape.width and 0 <= y < shape.height):
            last = f"{shape.width - 1},{shape.height - 1}"
            raise ValueError(f"points has {x},{y}, a frame has the pixels 0,0 to {last}")
