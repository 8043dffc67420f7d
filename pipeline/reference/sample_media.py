"""Generated media files for the demo and the benchmarks: photos, and videos with and without audio."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from pipeline.reference.sample_inputs import random_images

FPS, SAMPLE_RATE = 25, 48_000
_CHORD = (220, 277, 330)  # Hz
_DRIFT = 64  # frames after which the drift starts again


def write_photos(folder: Path, count: int, *, size: tuple[int, int] = (480, 640)) -> None:
    """Write `count` different JPEG files of (height, width)."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        Image.fromarray(_image(*size, generator)).save(folder / f"{number:06d}.jpg", quality=90)


def drifting_frames(count: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield `count` frames uint8 [H, W, 3] of an image that drifts by one pixel per frame."""
    height, width = size
    image = _image(height + _DRIFT, width + _DRIFT, torch.Generator().manual_seed(0))
    for number in range(count):
        place = number % _DRIFT
        yield image[place : place + height, place : place + width]


def write_video(
    path: Path, frames: Iterable[np.ndarray], *, size: tuple[int, int], audio_seconds: float | None = None
) -> None:
    """Write an H.264 video of frames uint8 [H, W, 3], 25 per second, with `audio_seconds` of a chord.

    size: (height, width), both even.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.height, video.width = size
        video.pix_fmt = "yuv420p"
        # Before the first frame: a container's header lists all streams.
        audio = None if audio_seconds is None else container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None and audio_seconds is not None:
            container.mux(audio.encode(_chord(audio_seconds)))
            container.mux(audio.encode(None))


def _chord(seconds: float) -> av.AudioFrame:
    times = np.arange(round(SAMPLE_RATE * seconds)) / SAMPLE_RATE
    waves = sum(0.2 * np.sin(2 * np.pi * pitch * times) for pitch in _CHORD)
    frame = av.AudioFrame.from_ndarray(np.asarray(waves, np.float32)[None], format="fltp", layout="mono")
    frame.sample_rate = SAMPLE_RATE
    return frame


def _image(height: int, width: int, generator: torch.Generator) -> np.ndarray:
    """uint8 [H, W, 3]"""
    image = random_images((1, 3), height, width, generator)[0]
    return (image * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
