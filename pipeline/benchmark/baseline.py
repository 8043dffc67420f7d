"""Parts of the plain scripts: transformers' models, and reading of inputs as in its documentation."""

import argparse
import io
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeAlias

import av
import numpy as np
import torch
from transformers import PerceiverConfig

from pipeline.benchmark.monitor import append
from pipeline.reference import transformers_model
from pipeline.reference.parity import spread_chunks
from pipeline.reference.sample_inputs import frame_patches

Batch: TypeAlias = dict[str, Any]

_PIXELS_PER_UNIT = 20.0  # of the model's flow
_FPS = 25  # of the clips that the published model was trained on


@dataclass(frozen=True, kw_only=True)
class ScriptOptions:
    """Options of a plain script, which predicts a folder or file into a folder of Parquet files."""

    task: str
    input: str
    output: str
    checkpoint: str
    dtype: str = "float32"
    device: str = "cpu"
    batch_size: int = 1  # a unit of any task keeps all CPUs busy
    chunks: int | None = None  # of a clip's 128; None: all
    log: str | None = None  # file for when the model was loaded and the seconds of each call

    @classmethod
    def parse(cls, description: str, arguments: Sequence[str] | None = None) -> Self:
        """Parse a script's command line."""
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("task", choices=list(PREDICTORS))
        parser.add_argument("input")
        parser.add_argument("output")
        parser.add_argument("--checkpoint", required=True, help="a folder")
        parser.add_argument("--dtype", default=cls.dtype)
        parser.add_argument("--device", default=cls.device, choices=["cpu", "cuda"])
        parser.add_argument("--batch-size", type=int, default=cls.batch_size)
        parser.add_argument("--chunks", type=int, help="chunks to decode, of a clip's 128; default: all")
        parser.add_argument(
            "--log", help="file for the time at which the model was loaded, and the seconds of each call"
        )
        return cls(**vars(parser.parse_args(arguments)))

    def to_arguments(self) -> list[str]:
        """Return the command line that `parse` turns into these options."""
        named = {name: value for name, value in vars(self).items() if value is not None}
        positional = [str(named.pop(name)) for name in ("task", "input", "output")]
        return [*positional, *(f"--{name.replace('_', '-')}={value}" for name, value in named.items())]

    def preprocessor(self) -> Callable[[Batch], Any]:
        """Return the function that makes batches for the predictor of batches that were read."""
        if self.task == "image-classification":
            from transformers import PerceiverImageProcessorPil  # the other image processor needs torchvision

            return partial(preprocess_images, processor=PerceiverImageProcessorPil.from_pretrained(self.checkpoint))
        config = PerceiverConfig.from_pretrained(self.checkpoint)
        if self.task == "optical-flow":
            return partial(preprocess_pairs, size=(config.train_size[0], config.train_size[1]))
        return partial(preprocess_clips, config=config)


class Predictor(ABC):
    """A transformers model with its inference code. threads: of torch."""

    def __init__(self, options: ScriptOptions, threads: int) -> None:
        began, self.log = time.time(), options.log
        # Ray limits an actor of one CPU to one thread, which no user would keep.
        torch.set_num_threads(threads)
        dtype = getattr(torch, options.dtype)
        self.model = transformers_model.load(Path(options.checkpoint), dtype=dtype, device=options.device)
        if self.log is not None:
            append(self.log, process=os.getpid(), began=began, ready=time.time())

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Batch:
        """Predict columns of outputs from columns of inputs."""
        began = time.perf_counter()
        outputs = self.predict(batch)
        if self.log is not None:
            append(self.log, predicted=time.perf_counter() - began)
        return outputs

    @abstractmethod
    def predict(self, batch: Batch) -> Batch:
        """Predict a batch in inference mode."""

    def tensor(self, values: np.ndarray) -> torch.Tensor:
        """Copy values to the device; floating-point values in the model's dtype."""
        tensor = torch.tensor(values, device=self.model.device)
        return tensor.to(self.model.dtype) if tensor.is_floating_point() else tensor


class ImagePredictor(Predictor):
    """Image classification."""

    def predict(self, batch: Batch) -> Batch:
        """Predict the best label of {"pixels": float32 [B, 3, H, W]}."""
        best = self.model(inputs=self.tensor(batch["pixels"])).logits.float().softmax(dim=-1).max(dim=-1)
        ids = best.indices.cpu().numpy()
        labels = [self.model.config.id2label[int(number)] for number in ids]
        return {"path": batch["path"], "label_id": ids, "label": labels, "score": best.values.cpu().numpy()}


class FlowPredictor(Predictor):
    """Optical flow between two frames of the model's training size."""

    def predict(self, batch: Batch) -> Batch:
        """Predict flow, float16 [B, H, W, 2] in pixels, of {"frames": uint8 [B, 2, H, W, 3]}."""
        frames = self.tensor(batch["frames"]).permute(0, 1, 4, 2, 3).float() / 255 * 2 - 1
        flow = self.model(inputs=frame_patches(frames).to(self.model.dtype)).logits.float() * _PIXELS_PER_UNIT
        return {"path": batch["path"], "frame_index": batch["frame_index"], "flow": flow.half().cpu().numpy()}


class ClipPredictor(Predictor):
    """Reconstruction of clips in chunks, as in transformers' documentation."""

    def __init__(self, options: ScriptOptions, threads: int) -> None:
        super().__init__(options, threads)
        config, chunks = self.model.config, spread_chunks(self.model.config, options.chunks)
        self.points = [transformers_model.chunk_points(config, chunk) for chunk in chunks]

    def predict(self, batch: Batch) -> Batch:
        """Reconstruct {"frames": uint8 [B, T, h, w, 3], "samples": float32 [B, S]}, and predict the label."""
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
    """Transform images with the checkpoint's processor."""
    pixels = processor(list(batch["image"]), return_tensors="np").pixel_values
    return {"path": batch["path"], "pixels": np.asarray(pixels, np.float32)}


def preprocess_pairs(batch: Batch, size: tuple[int, int]) -> Iterator[Batch]:
    """Yield each frame of the videos with the next one. ValueError if they have another size than the model."""
    for path, content in zip(batch["path"], batch["bytes"], strict=True):
        with av.open(io.BytesIO(content), "r") as video:
            last = None
            for number, frame in enumerate(video.decode(video=0)):
                pixels = frame.to_ndarray(format="rgb24")
                if pixels.shape[:2] != size:
                    raise ValueError(f"{path}: the frames have the size {pixels.shape[:2]}, but the model needs {size}")
                if last is not None:
                    yield {"path": [path], "frame_index": [number - 1], "frames": np.stack([last, pixels])[None]}
                last = pixels


def preprocess_clips(batch: Batch, config: PerceiverConfig) -> Iterator[Batch]:
    """Yield the complete clips of the videos."""
    count, per_frame = config.num_frames, config.audio_samples_per_frame
    height, width = config.output_shape[2:]
    for path, content in zip(batch["path"], batch["bytes"], strict=True):
        with av.open(io.BytesIO(content), "r") as video:
            decoded = video.decode(video=0)
            frames = np.stack([frame.to_ndarray(format="rgb24", width=width, height=height) for frame in decoded])
        samples = _audio(content, per_frame * _FPS, len(frames) * per_frame)
        for number in range(len(frames) // count):
            yield {
                "path": [path],
                "clip_index": [number],
                "frames": frames[None, number * count : (number + 1) * count],
                "samples": samples[None, number * count * per_frame : (number + 1) * count * per_frame],
            }


def _audio(content: bytes, rate: int, length: int) -> np.ndarray:
    """Return one audio channel, float32 [length], padded with zeros at the end."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    with av.open(io.BytesIO(content), "r") as video:
        resampled = [part for frame in video.decode(audio=0) for part in resampler.resample(frame)]
    parts = [part.to_ndarray()[0] for part in [*resampled, *resampler.resample(None)]]
    samples = np.concatenate(parts)[:length]
    return np.pad(samples, (0, length - len(samples))).astype(np.float32)


PREDICTORS: Mapping[str, type[Predictor]] = {
    "image-classification": ImagePredictor,
    "optical-flow": FlowPredictor,
    "multimodal-autoencoding": ClipPredictor,
}
