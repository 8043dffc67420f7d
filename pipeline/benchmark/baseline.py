"""What plain scripts share: transformers' models in a class, and reading their inputs as its documentation does."""

from __future__ import annotations

import argparse
import io
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np
import torch
from torch.nn import functional as F
from transformers import PerceiverConfig

from pipeline.benchmark.monitor import note
from pipeline.reference import transformers_model
from pipeline.reference.parity import spread_chunks

Batch: TypeAlias = dict[str, Any]

_PIXELS = 20.0  # of one unit of flow
_FPS = 25  # of the clips that the published model learned from


class Predictor(ABC):
    """transformers' model, in a process that holds it."""

    def __init__(self, *, checkpoint: str, dtype: str, device: str, threads: int) -> None:
        # Ray gives an actor of one CPU one thread: nobody would leave it at that.
        torch.set_num_threads(threads)
        self.model = transformers_model.load(Path(checkpoint), dtype=getattr(torch, dtype), device=device)

    @abstractmethod
    def __call__(self, batch: Batch) -> Batch:
        """Columns of inputs to columns of outputs."""

    def tensor(self, values: np.ndarray) -> torch.Tensor:
        """A copy on the device, in the model's dtype where it is not of bytes."""
        tensor = torch.tensor(values, device=self.model.device)
        return tensor.to(self.model.dtype) if tensor.is_floating_point() else tensor


class ImagePredictor(Predictor):
    """Labels of pixels."""

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Batch:
        """{"pixels": float32 [B, 3, H, W]} to the best label of each picture."""
        best = self.model(inputs=self.tensor(batch["pixels"])).logits.float().softmax(dim=-1).max(dim=-1)
        ids = best.indices.cpu().numpy()
        labels = [self.model.config.id2label[int(number)] for number in ids]
        return {"path": batch["path"], "label_id": ids, "label": labels, "score": best.values.cpu().numpy()}


class FlowPredictor(Predictor):
    """Flow between two frames of the size that the model was trained at."""

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Batch:
        """{"frames": uint8 [B, 2, H, W, 3]} to float16 [B, H, W, 2] in pixels."""
        frames = self.tensor(batch["frames"]).permute(0, 1, 4, 2, 3).float() / 255 * 2 - 1
        flow = self.model(inputs=_patches(frames).to(self.model.dtype)).logits.float() * _PIXELS
        return {"path": batch["path"], "frame_index": batch["frame_index"], "flow": flow.half().cpu().numpy()}


class ClipPredictor(Predictor):
    """A clip rebuilt pass by pass, as transformers' documentation does it; `chunks`: of its 128 passes how many."""

    def __init__(self, *, chunks: int | None, **named: Any) -> None:
        super().__init__(**named)
        config = self.model.config
        self.points = [transformers_model.chunk_points(config, chunk) for chunk in spread_chunks(config, chunks)]

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Batch:
        """{"frames": uint8 [B, T, h, w, 3], "samples": float32 [B, S]} to pixels, samples and the label."""
        image = (self.tensor(batch["frames"]).permute(0, 1, 4, 2, 3).float() / 255).to(self.model.dtype)
        label = image.new_zeros(len(image), self.model.config.num_labels)
        inputs = {"image": image, "audio": self.tensor(batch["samples"])[..., None], "label": label}
        answers = [self.model(inputs=inputs, subsampled_output_points=points).logits for points in self.points]
        pixels, audio = (torch.cat([answer[name] for answer in answers], dim=1).float() for name in ("image", "audio"))
        return {
            "path": batch["path"],
            "clip_index": batch["clip_index"],
            "label_id": answers[0]["label"].argmax(dim=-1).cpu().numpy(),
            "pixels": (pixels.clamp(0, 1) * 255).round().byte().cpu().numpy(),
            "audio": audio.cpu().numpy(),
        }


def preprocess_images(batch: Batch, processor: Any) -> Batch:
    """Pixels as the checkpoint's own processor makes them."""
    pixels = processor(list(batch["image"]), return_tensors="np").pixel_values
    return {"path": batch["path"], "pixels": np.asarray(pixels, np.float32)}


def preprocess_pairs(batch: Batch, size: tuple[int, int]) -> Iterator[Batch]:
    """Each frame of the films with the next one; ValueError where they are not of the model's size."""
    for path, content in zip(batch["path"], batch["bytes"], strict=True):
        with av.open(io.BytesIO(content), "r") as film:
            last = None
            for number, frame in enumerate(film.decode(video=0)):
                pixels = frame.to_ndarray(format="rgb24")
                if pixels.shape[:2] != size:
                    raise ValueError(f"{path}: frames of {pixels.shape[:2]} are no tile of {size}")
                if last is not None:
                    yield {"path": [path], "frame_index": [number - 1], "frames": np.stack([last, pixels])[None]}
                last = pixels


def preprocess_clips(batch: Batch, config: PerceiverConfig) -> Iterator[Batch]:
    """One clip after another of the films, whole ones only."""
    count, per_frame = config.num_frames, config.audio_samples_per_frame
    height, width = config.output_shape[2:]
    for path, content in zip(batch["path"], batch["bytes"], strict=True):
        with av.open(io.BytesIO(content), "r") as film:
            shown = film.decode(video=0)
            frames = np.stack([frame.to_ndarray(format="rgb24", width=width, height=height) for frame in shown])
        samples = _sound(content, per_frame * _FPS, len(frames) * per_frame)
        for number in range(len(frames) // count):
            yield {
                "path": [path],
                "clip_index": [number],
                "frames": frames[None, number * count : (number + 1) * count],
                "samples": samples[None, number * count * per_frame : (number + 1) * count * per_frame],
            }


def _sound(content: bytes, rate: int, length: int) -> np.ndarray:
    """float32 [length], one channel; zeros behind where there is less."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    with av.open(io.BytesIO(content), "r") as film:
        heard = [part for frame in film.decode(audio=0) for part in resampler.resample(frame)]
    parts = [part.to_ndarray()[0] for part in [*heard, *resampler.resample(None)]]
    samples = np.concatenate(parts)[:length]
    return np.pad(samples, (0, length - len(samples))).astype(np.float32)


def _patches(frames: torch.Tensor) -> torch.Tensor:
    """[B, 2, 27, H, W] of frames [B, 2, 3, H, W]: each pixel with its neighbours; kernel row, column, colour."""
    batch, _, _, height, width = frames.shape
    patches = F.unfold(frames.flatten(0, 1), kernel_size=3, padding=1)  # colour, kernel row, kernel column
    patches = patches.reshape(batch, 2, 3, 9, height, width)
    return patches.transpose(2, 3).reshape(batch, 2, 27, height, width)


class WatchedPredictor:
    """A predictor that takes down when it was ready, by which process, and the seconds of each call."""

    def __init__(self, *, predictor: type[Predictor], notes: str, **arguments: Any) -> None:
        began, self.notes = time.time(), notes
        self.predictor = predictor(**arguments)
        note(notes, process=os.getpid(), began=began, ready=time.time())

    def __call__(self, batch: Batch) -> Batch:
        """What the predictor gives."""
        began = time.perf_counter()
        outputs = self.predictor(batch)
        note(self.notes, predicted=time.perf_counter() - began)
        return outputs


PREDICTORS: Mapping[str, type[Predictor]] = {
    "image-classification": ImagePredictor,
    "optical-flow": FlowPredictor,
    "multimodal-autoencoding": ClipPredictor,
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a plain script is asked for: a folder or file, predicted into a folder of Parquet files."""

    task: str
    input: str
    output: str
    checkpoint: str
    dtype: str = "float32"
    device: str = "cpu"
    batch_size: int = 1  # a CPU is full of one unit of any of them
    chunks: int | None = None  # of a clip's 128 passes; None: all
    notes: str | None = None  # a file that takes down when the model was ready, and seconds of each call

    @classmethod
    def parse(cls, description: str, words: Sequence[str] | None = None) -> Asked:
        """From a script's command line."""
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("task", choices=list(PREDICTORS))
        parser.add_argument("input")
        parser.add_argument("output")
        parser.add_argument("--checkpoint", required=True, help="a folder")
        parser.add_argument("--dtype", default=cls.dtype)
        parser.add_argument("--device", default=cls.device, choices=["cpu", "cuda"])
        parser.add_argument("--batch-size", type=int, default=cls.batch_size)
        parser.add_argument("--chunks", type=int, help="of a clip's 128 passes, all by default")
        parser.add_argument("--notes", help="a file to take down when the model was ready, and seconds of each call")
        return cls(**vars(parser.parse_args(words)))

    def words(self) -> list[str]:
        """What `parse` makes the same of."""
        named = {name: value for name, value in vars(self).items() if value is not None}
        first = [str(named.pop(name)) for name in ("task", "input", "output")]
        return [*first, *(f"--{name.replace('_', '-')}={value}" for name, value in named.items())]

    def predictor(self, threads: int) -> tuple[Callable[..., Callable[[Batch], Batch]], dict[str, Any]]:
        """What predicts, and what it is made with; `threads`: of torch."""
        made_by, named = PREDICTORS[self.task], {"checkpoint": self.checkpoint, "dtype": self.dtype}
        arguments: dict[str, Any] = {**named, "device": self.device, "threads": threads}
        if self.task == "multimodal-autoencoding":
            arguments["chunks"] = self.chunks
        if self.notes is None:
            return made_by, arguments
        return WatchedPredictor, {"predictor": made_by, "notes": self.notes, **arguments}
