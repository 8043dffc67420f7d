"""Arrays of one row: flow, video, audio and latents, in the shapes that the row's other columns give, and why a run has
none."""

import io
import wave
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.heads.latent_columns import latents_from_row
from pipeline.runtime.errors import UsageError
from pipeline.sources.video.container import MonitoredFile, main_video_stream, open_container

_PEAK = 2**15  # of 16-bit samples
_CLIPS = "multimodal-autoencoding"
_TASK_OF_COLUMN = {"flow": "optical-flow", "video": _CLIPS, "audio": _CLIPS}


def require_column(column: str, names: Sequence[str], task: str, output: str) -> None:
    """Raise UsageError, with the reason, unless rows with these columns have flow of whole frames, video, audio or
    latents."""
    if not names:
        raise UsageError(f"{output} has no rows yet")
    if column == "flow" and "points" in names and "flow" in names:
        raise UsageError(
            f"{output} has the flow of some points only, because the run has --points: read the columns points and "
            "flow, for example with rows()"
        )
    if column in names:
        return
    if column == "latents":
        reason = "the run was made without --latents"
    elif task != _TASK_OF_COLUMN[column]:
        reason = f"its task is {task}; only {_TASK_OF_COLUMN[column]} has {column}"
    else:
        reason = "the run's --outputs or --points leave it out"
    raise UsageError(f"{output} has no {column}: {reason}")


def flow_array(row: Mapping[str, Any]) -> np.ndarray:
    """Return the motion float32 [H, W, 2] of every pixel of the first frame, in pixels, x then y.

    row: With flow, height and width. ValueError if the sizes do not fit together.
    """
    flat, height, width = np.asarray(row["flow"], np.float32), row["height"], row["width"]
    if flat.size != height * width * 2:
        raise ValueError(f"flow has {flat.size} values; {height} by {width} pixels need {height * width * 2}")
    return flat.reshape(height, width, 2)


def video_array(data: bytes) -> np.ndarray:
    """Decode the frames uint8 [T, H, W, 3] of a stored mp4 file."""
    with open_container(MonitoredFile(io.BytesIO(data))) as container:
        stream = main_video_stream(container)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def audio_array(data: bytes) -> tuple[np.ndarray, int]:
    """Decode the samples float32 [S, C] in [-1, 1] of a stored 16-bit wav file, and its samples per second."""
    with wave.open(io.BytesIO(data)) as file:
        channels, rate = file.getnchannels(), file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return samples.reshape(-1, channels).astype(np.float32) / _PEAK, rate


def latents_array(row: Mapping[str, Any]) -> np.ndarray:
    """Return the latents float32 [N, D] of a row, or [T, N, D] of a frame in T > 1 tiles or a text in T windows."""
    latents = latents_from_row(row).astype(np.float32)
    return latents[0] if len(latents) == 1 else latents
