"""The same work as Ray Data's and transformers' own documentation would have one write it: read, preprocess, predict in
an actor, write Parquet. What whole runs are measured beside.

    python -m pipeline.throughput.plain_ray image-classification INPUT OUTPUT --checkpoint FOLDER

Nothing is retried, quarantined or resumed, and files are read without limits. Films are read whole by one task.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np
import ray
import ray.data
import torch
from torch.nn import functional as F
from transformers import PerceiverConfig

from pipeline.reference import oracle
from pipeline.reference.compare import spread_chunks

Batch: TypeAlias = dict[str, Any]

_PIXELS = 20.0  # of one unit of flow
_FPS = 25  # of the clips that the published model learned from


class Predictor:
    """transformers' model, in an actor."""

    def __init__(self, *, checkpoint: str, dtype: str, device: str, threads: int) -> None:
        # Ray gives an actor of one CPU one thread: nobody would leave it at that.
        torch.set_num_threads(threads)
        self.model = oracle.load(Path(checkpoint), dtype=getattr(torch, dtype), device=device)

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
        self.points = [oracle.chunk_points(config, chunk) for chunk in spread_chunks(config, chunks)]

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


@dataclass(frozen=True, kw_only=True)
class Script:
    """What is read, and what predicts it."""

    inputs: ray.data.Dataset
    predictor: type
    arguments: Mapping[str, Any]
    batch_size: int
    gpus: int

    def write(self, output: str) -> None:
        """Predict all of it into Parquet."""
        predicted = self.inputs.map_batches(
            self.predictor,
            fn_constructor_kwargs=dict(self.arguments),
            compute=ray.data.ActorPoolStrategy(size=1),
            batch_size=self.batch_size,
            num_gpus=self.gpus or None,
        )
        predicted.write_parquet(output)


def script(
    task: str,
    inputs: str,
    checkpoint: str,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    batch_size: int | None = None,
    chunks: int | None = None,
) -> Script:
    """The script of a task over a file or folder; `chunks`: of a clip's 128 passes, all by default."""
    threads = max(1, int(ray.cluster_resources()["CPU"]))
    arguments = {"checkpoint": checkpoint, "dtype": dtype, "device": device, "threads": threads}
    if task == "multimodal-autoencoding":
        arguments["chunks"] = chunks
    return Script(
        inputs=_READ[task](inputs, checkpoint),
        predictor=_PREDICTORS[task],
        arguments=arguments,
        batch_size=batch_size or 1,  # a CPU is full of one unit of any of them
        gpus=int(device == "cuda"),
    )


def _images(inputs: str, checkpoint: str) -> ray.data.Dataset:
    from transformers import PerceiverImageProcessorPil  # the other class of its name needs torchvision

    processor = PerceiverImageProcessorPil.from_pretrained(checkpoint)
    pictures = ray.data.read_images(inputs, include_paths=True, mode="RGB")
    return pictures.map_batches(preprocess_images, fn_kwargs={"processor": processor}, batch_size=8)


def _pairs(inputs: str, checkpoint: str) -> ray.data.Dataset:
    height, width = PerceiverConfig.from_pretrained(checkpoint).train_size
    films = ray.data.read_binary_files(inputs, include_paths=True)
    return films.map_batches(preprocess_pairs, fn_kwargs={"size": (height, width)}, batch_size=1)


def _clips(inputs: str, checkpoint: str) -> ray.data.Dataset:
    films = ray.data.read_binary_files(inputs, include_paths=True)
    config = PerceiverConfig.from_pretrained(checkpoint)
    return films.map_batches(preprocess_clips, fn_kwargs={"config": config}, batch_size=1)


_READ: Mapping[str, Callable[[str, str], ray.data.Dataset]] = {
    "image-classification": _images,
    "optical-flow": _pairs,
    "multimodal-autoencoding": _clips,
}
_PREDICTORS: Mapping[str, type[Predictor]] = {
    "image-classification": ImagePredictor,
    "optical-flow": FlowPredictor,
    "multimodal-autoencoding": ClipPredictor,
}
TASKS = tuple(_READ)


def main(arguments: Sequence[str] | None = None) -> None:
    """The script from the command line."""
    parser = argparse.ArgumentParser(description="Predict with transformers under Ray Data, plainly.")
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--checkpoint", required=True, help="a folder")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--chunks", type=int, help="of a clip's 128 passes, all by default")
    given = vars(parser.parse_args(arguments))
    output = given.pop("output")
    ray.init(address="local", log_to_driver=False)
    script(given.pop("task"), given.pop("input"), given.pop("checkpoint"), **given).write(output)


if __name__ == "__main__":
    main()
